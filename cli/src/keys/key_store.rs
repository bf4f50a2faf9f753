//! Where the keys are: in the store, or behind a running process.

use std::time::Duration;

use broker::admin::{KeyView, NewKey, NewKeyView, RotateKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service::config::Layered;
use store::audit::Action;
use store::connection::{Address, RedisTls};
use store::freshness::Lead;
use store::names::Prefix;
use store::{KeyHash, Timestamp};
use store_writer::{OpenStoreError, Rings, Store, StoreWriter};

use crate::exit::{Failure, chain};
use crate::move_store::without_login;
use crate::operate::{Admin, AdminConfig};
use crate::output::complain;
use crate::process::read;
use crate::settings::Common;
use crate::{redis_prefix, redis_tls};

/// Where the keys are stored.
pub(super) enum KeyStore {
    Direct(Box<Direct>),
    Running(Admin),
}

/// The store itself.
pub(super) struct Direct {
    writer: StoreWriter,
    /// Where it is, without user and password.
    at: String,
}

impl Direct {
    fn failed(&self, error: impl std::error::Error) -> Failure {
        Failure::NoAnswer(format!("the store {}: {}", self.at, chain(&error)))
    }
}

impl KeyStore {
    pub(super) fn open(source: &Layered) -> Result<Self, Failure> {
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
            let failed = |error: &dyn std::error::Error| {
                let at = without_login(url.expose_secret());
                Failure::NoAnswer(format!("the store at {at}: {}", chain(error)))
            };
            let address = Address::parse_with_tls(&url, &tls).map_err(|error| failed(&error))?;
            let store = Store::at(address.with_prefix(prefix), 0, no_rings(), Lead::Auto);
            let store = store.map_err(|error| failed(&error))?;
            return Ok(Self::Direct(Box::new(Direct {
                writer: store.writer,
                at: format!("at {}", without_login(url.expose_secret())),
            })));
        }
        let directory = &found.common.data_dir;
        if !directory.join("store.redb").exists() {
            return Ok(Self::Running(Admin::new(found.admin)?));
        }
        match Store::embedded(directory, no_rings(), Lead::Auto) {
            Ok(store) => Ok(Self::Direct(Box::new(Direct {
                writer: store.writer,
                at: format!("in {}", directory.display()),
            }))),
            Err(OpenStoreError::File(store_writer::group_commit_db::DbError::InUse { .. })) => {
                Ok(Self::Running(Admin::new(found.admin)?))
            }
            Err(error) => Err(Failure::NoAnswer(format!(
                "the store in {}: {}",
                directory.display(),
                chain(&error)
            ))),
        }
    }

    pub(super) async fn create(&self, request: NewKey) -> Result<Value, Failure> {
        match self {
            Self::Direct(direct) => {
                let now = Timestamp::of_this_machine();
                let caller = request.into_caller(now).map_err(Failure::Refused)?;
                let key = direct.writer.create_caller(&caller).await;
                let key = key.map_err(|error| direct.failed(error))?;
                let hash = KeyHash::of(key.expose_secret());
                note(&direct.writer, Action::KeyCreated, &hash, &caller.name).await;
                Ok(json!({
                    "id": hash.to_string(),
                    "name": caller.name,
                    "key": key.expose_secret(),
                }))
            }
            Self::Running(admin) => admin.post("/v1/keys", Some(&json!(request)), "key").await,
        }
    }

    pub(super) async fn rotate(&self, id: &str, overlap: Duration) -> Result<Value, Failure> {
        match self {
            Self::Direct(direct) => {
                let hash: KeyHash = id.parse().map_err(|()| no_such_key())?;
                let now = Timestamp::of_this_machine();
                let rotated = direct.writer.rotate_caller(&hash, now, overlap).await;
                let rotated = rotated.map_err(|error| direct.failed(error))?;
                let rotated = rotated.map_err(|reason| Failure::Refused(reason.to_string()))?;
                let name = &rotated.rotation.successor.name;
                note(&direct.writer, Action::KeyRotated, &hash, name).await;
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

    pub(super) async fn list(&self) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Direct(direct) => {
                let now = Timestamp::of_this_machine();
                let callers = direct.writer.callers().await;
                let callers = callers.map_err(|error| direct.failed(error))?;
                let used = direct.writer.key_uses().await;
                let used = used.map_err(|error| direct.failed(error))?;
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

    pub(super) async fn revoke(&self, id: &str) -> Result<(), Failure> {
        match self {
            Self::Direct(direct) => {
                let hash: KeyHash = id.parse().map_err(|()| no_such_key())?;
                let now = Timestamp::of_this_machine();
                let revoked = direct.writer.revoke_caller(&hash, now).await;
                let was_there = revoked.map_err(|error| direct.failed(error))?;
                was_there.then_some(()).ok_or_else(no_such_key)?;
                let callers = direct.writer.callers().await.unwrap_or_default();
                let revoked = callers.iter().find(|(it, _)| *it == hash);
                let name = revoked.map_or("", |(_, caller)| &caller.name);
                note(&direct.writer, Action::KeyRevoked, &hash, name).await;
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
        let why = chain(&error);
        complain(format!("The audit log has no entry about this: {why}"));
    }
}

fn no_such_key() -> Failure {
    Failure::Refused("there is no such key".to_owned())
}
