//! `evergreen keys`: acts on Redis if that is the store, otherwise on the running process, otherwise on the
//! file.

use std::time::Duration;

use broker::admin::{KeyView, NewKey, NewKeyView, RotateKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service::config::Layered;
use store::audit::Action;
use store::connection::{Address, RedisTls};
use store::freshness::Lead;
use store::names::Prefix;
use store::{AllowedCall, KeyHash, Scope, Timestamp};
use store_writer::{OpenStoreError, Rings, Store, StoreWriter};

use crate::args::Keys;
use crate::exit::{Failure, chain};
use crate::operate::{Admin, AdminConfig};
use crate::process::read;
use crate::settings::Common;
use crate::{redis_prefix, redis_tls};

/// `evergreen keys …`.
pub(crate) async fn act(source: &Layered, what: Keys) -> Result<(), Failure> {
    let keys = KeyStore::open(source)?;
    match what {
        Keys::Create {
            name,
            app,
            installation,
            allow,
            scope,
            expires_in,
            quota,
        } => {
            let new_key = NewKey {
                name,
                scopes: scope.iter().map(Scope::to_string).collect(),
                app: app.as_ref().map(ToString::to_string),
                installations: (!installation.is_empty()).then_some(installation),
                calls: (!allow.is_empty())
                    .then(|| allow.iter().map(AllowedCall::to_string).collect()),
                quota: quota.map(|quota| quota.to_string()),
                expires_at_ms: expires_in
                    .map(|left| (Timestamp::of_this_machine() + left).as_millis()),
            };
            show_once(&keys.create(new_key).await?);
        }
        Keys::List => {
            let listed = keys.list().await?;
            println!(
                "{:<10} {:<8} {:<24} {:<22} {:<22} {:<14} {:<11} {:<33} CALLS",
                "ID", "STATE", "NAME", "SCOPES", "EXPIRES", "QUOTA", "LAST USED", "INSTALLATIONS"
            );
            for key in listed {
                print_key(&key);
            }
        }
        Keys::Rotate { key, overlap } => {
            let id = find(&keys.list().await?, &key)?;
            let rotated = keys.rotate(&id, overlap).await?;
            show_once(&rotated);
            let end = rotated["oldEndsAt"].as_str().unwrap_or("-");
            eprintln!("The old key ends at {end}.");
        }
        Keys::Revoke { key } => {
            let id = find(&keys.list().await?, &key)?;
            keys.revoke(&id).await?;
            println!("revoked");
        }
    }
    Ok(())
}

/// The key alone goes to stdout, for scripts.
fn show_once(made: &Value) {
    eprintln!("Keep this key: it is shown only now.");
    println!("{}", made["key"].as_str().unwrap_or_default());
}

fn print_key(key: &Value) {
    let text = |field: &str| key[field].as_str().unwrap_or("-").to_owned();
    let list = |field: &str, separator: &str| match key[field].as_array() {
        Some(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(separator)
        }
        None => "all".to_owned(),
    };
    let state = if key["live"] == true { "live" } else { "dead" };
    println!(
        "{:<10} {state:<8} {:<24} {:<22} {:<22} {:<14} {:<11} {:<33} {}",
        text("id").chars().take(8).collect::<String>(),
        text("name"),
        list("scopes", ","),
        text("expiresAt"),
        text("quota"),
        key["lastUsedOn"].as_str().unwrap_or("never"),
        match key["app"].as_str() {
            Some(app) => format!("{} of {app}", list("installations", ",")),
            None => list("installations", ","),
        },
        list("calls", "; ")
    );
}

/// The id of the one live key with this name, or whose id begins with it (at least 8 characters).
fn find(keys: &[Value], wanted: &str) -> Result<String, Failure> {
    let matches: Vec<&str> = keys
        .iter()
        .filter(|key| key["live"] == true)
        .filter(|key| {
            let id = key["id"].as_str().unwrap_or_default();
            key["name"] == wanted || (wanted.len() >= 8 && id.starts_with(wanted))
        })
        .filter_map(|key| key["id"].as_str())
        .collect();
    match matches.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::Refused(format!(
            "there is no live key `{wanted}`: `evergreen keys list`"
        ))),
        several => Err(Failure::Refused(format!(
            "{} live keys are called `{wanted}`: name one by its id",
            several.len()
        ))),
    }
}

fn no_such_key() -> Failure {
    Failure::Refused("there is no such key".to_owned())
}

/// Where the keys are stored.
enum KeyStore {
    Direct(Box<StoreWriter>),
    Running(Admin),
}

impl KeyStore {
    fn open(source: &Layered) -> Result<Self, Failure> {
        struct Found {
            redis: Option<(SecretString, RedisTls, Prefix)>,
            common: Common,
            admin: AdminConfig,
        }
        let found = read(source, |settings| Found {
            redis: settings.secret("EVERGREEN_REDIS_URL").map(|url| {
                let tls = redis_tls::read(settings);
                (url, tls, redis_prefix::read(settings))
            }),
            common: Common::read(settings, 8080, 9080),
            admin: Admin::read(settings),
        })?;
        // Callers are not sealed, so any key ring works.
        let no_rings = || Rings {
            access: std::sync::Arc::new(store::KeyRing::generate("unused")),
            refresh: std::sync::Arc::new(store::KeyRing::generate("unused")),
        };
        if let Some((url, tls, prefix)) = found.redis {
            let address = Address::parse_with_tls(&url, &tls).map_err(Failure::unavailable)?;
            let store = Store::at(address.with_prefix(prefix), 0, no_rings(), Lead::Auto);
            let store = store.map_err(Failure::unavailable)?;
            return Ok(Self::Direct(Box::new(store.writer)));
        }
        let directory = &found.common.data_dir;
        if !directory.join("store.redb").exists() {
            return Ok(Self::Running(Admin::new(found.admin)?));
        }
        match Store::embedded(directory, no_rings(), Lead::Auto) {
            Ok(store) => Ok(Self::Direct(Box::new(store.writer))),
            Err(OpenStoreError::File(store_writer::group_commit_db::DbError::InUse { .. })) => {
                Ok(Self::Running(Admin::new(found.admin)?))
            }
            Err(error) => Err(Failure::unavailable(error)),
        }
    }

    async fn create(&self, request: NewKey) -> Result<Value, Failure> {
        match self {
            Self::Direct(writer) => {
                let now = Timestamp::of_this_machine();
                let caller = request.into_caller(now).map_err(Failure::Refused)?;
                let key = writer
                    .create_caller(&caller)
                    .await
                    .map_err(Failure::unavailable)?;
                let hash = KeyHash::of(key.expose_secret());
                note(writer, Action::KeyCreated, &hash, &caller.name).await;
                Ok(json!({ "key": key.expose_secret() }))
            }
            Self::Running(admin) => admin.post("/v1/keys", Some(&json!(request)), "key").await,
        }
    }

    async fn rotate(&self, id: &str, overlap: Duration) -> Result<Value, Failure> {
        match self {
            Self::Direct(writer) => {
                let hash: KeyHash = id.parse().map_err(|()| no_such_key())?;
                let now = Timestamp::of_this_machine();
                let rotated = writer.rotate_caller(&hash, now, overlap).await;
                let rotated = rotated.map_err(Failure::unavailable)?;
                let rotated = rotated.map_err(|reason| Failure::Refused(reason.to_string()))?;
                let name = &rotated.rotation.successor.name;
                note(writer, Action::KeyRotated, &hash, name).await;
                Ok(json!(NewKeyView::of_rotated(&rotated)))
            }
            Self::Running(admin) => {
                let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
                let body = json!(RotateKey { overlap_ms });
                let path = format!("/v1/keys/{id}/rotate");
                admin.post(&path, Some(&body), "key").await
            }
        }
    }

    async fn list(&self) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Direct(writer) => {
                let now = Timestamp::of_this_machine();
                let callers = writer.callers().await.map_err(Failure::unavailable)?;
                let used = writer.key_uses().await.map_err(Failure::unavailable)?;
                let views = callers
                    .iter()
                    .map(|(hash, caller)| json!(KeyView::of(hash, caller, now, used.get(hash))));
                Ok(views.collect())
            }
            Self::Running(admin) => {
                let listed = admin.get("/v1/keys", "keys").await?;
                Ok(listed["keys"].as_array().cloned().unwrap_or_default())
            }
        }
    }

    async fn revoke(&self, id: &str) -> Result<(), Failure> {
        match self {
            Self::Direct(writer) => {
                let hash: KeyHash = id.parse().map_err(|()| no_such_key())?;
                let now = Timestamp::of_this_machine();
                let revoked = writer.revoke_caller(&hash, now).await;
                let was_there = revoked.map_err(Failure::unavailable)?;
                was_there.then_some(()).ok_or_else(no_such_key)?;
                let callers = writer.callers().await.unwrap_or_default();
                let revoked = callers.iter().find(|(it, _)| *it == hash);
                let name = revoked.map_or("", |(_, caller)| &caller.name);
                note(writer, Action::KeyRevoked, &hash, name).await;
                Ok(())
            }
            Self::Running(admin) => admin.delete(&format!("/v1/keys/{id}")).await,
        }
    }
}

/// Writes an entry of the audit log. The key is changed already, so a failure is only shown.
async fn note(writer: &StoreWriter, action: Action, key: &KeyHash, name: &str) {
    let noted = writer.audit_key(action, key, name, "by evergreen keys, in the store");
    if let Err(error) = noted.await {
        eprintln!("The audit log has no entry about this: {}", chain(&error));
    }
}
