//! `evergreen keys`: acts on Redis if that is the store, otherwise on the running process, otherwise on the
//! file.

mod key_store;

use broker::admin::NewKey;
use serde_json::{Value, json};
use service::config::Layered;
use store::{AllowedCall, Scope, Timestamp};

use crate::args::{CreateKey, KeyOrder, Keys, ListKeys};
use crate::exit::Failure;
use crate::operate::text;
use crate::output::{Column, List, Output, member, time};
use key_store::KeyStore;

const KEYS: List = List {
    columns: &[
        Column::text("ID", |key| member(key, "id").chars().take(8).collect()),
        Column::state("STATE", state),
        Column::text("NAME", |key| member(key, "name")),
        Column::text("SCOPES", |key| all_of(key, "scopes", ",")),
        Column::time("EXPIRES", |key| time(key, "expiresAt")),
        Column::text("QUOTA", |key| member(key, "quota")).spare(2),
        Column::time("LAST USED", last_used).spare(1),
        Column::text("INSTALLATIONS", installations),
        Column::text("CALLS", |key| all_of(key, "calls", "; ")),
    ],
    id: |key| member(key, "id"),
    empty: "There are no such keys yet. `evergreen keys create --name NAME` makes one",
};

/// `evergreen keys …`.
pub(crate) async fn act(source: &Layered, output: Output, what: Keys) -> Result<(), Failure> {
    let keys = KeyStore::open(source)?;
    match what {
        Keys::Create(wanted) => show_once(output, &keys.create(request(wanted)).await?),
        Keys::List(wanted) => {
            let mut rows = output.list(&KEYS);
            rows.add(&chosen(keys.list().await?, &wanted))?;
            rows.end()
        }
        Keys::Rotate { key, overlap } => {
            let id = find(&keys.list().await?, &key)?;
            let rotated = keys.rotate(&id, overlap).await?;
            show_once(output, &rotated)?;
            let end = member(&rotated, "oldEndsAt");
            output.note(format!("The old key ends at {end}."));
            Ok(())
        }
        Keys::Revoke { key } => {
            let id = find(&keys.list().await?, &key)?;
            keys.revoke(&id).await?;
            let revoked = json!({ "id": id, "revoked": true });
            output.report(&revoked, &id, || "revoked".to_owned())
        }
    }
}

fn request(wanted: CreateKey) -> NewKey {
    let CreateKey {
        name,
        app,
        installation,
        allow,
        scope,
        expires_in,
        quota,
    } = wanted;
    NewKey {
        name,
        scopes: scope.iter().map(Scope::to_string).collect(),
        app: app.as_ref().map(ToString::to_string),
        installations: (!installation.is_empty()).then_some(installation),
        calls: (!allow.is_empty()).then(|| allow.iter().map(AllowedCall::to_string).collect()),
        quota: quota.map(|quota| quota.to_string()),
        expires_at_ms: expires_in.map(|left| (Timestamp::of_this_machine() + left).as_millis()),
    }
}

/// The key alone goes to stdout, for scripts.
fn show_once(output: Output, made: &Value) -> Result<(), Failure> {
    output.note("Keep this key: it is shown only now.");
    let key = text(made, "key");
    output.report(made, key, || key.to_owned())
}

/// The keys that are wanted, in the order that is wanted. Times are as RFC 3339, which sorts as text.
fn chosen(mut keys: Vec<Value>, wanted: &ListKeys) -> Vec<Value> {
    if wanted.live {
        keys.retain(|key| key["live"] == true);
    }
    match wanted.sort {
        None => {}
        Some(KeyOrder::Name) => keys.sort_by_key(|key| text(key, "name").to_owned()),
        // Those that never expire come last.
        Some(KeyOrder::Expires) => keys.sort_by_key(|key| {
            let expires_at = text(key, "expiresAt").to_owned();
            (expires_at.is_empty(), expires_at)
        }),
        Some(KeyOrder::Used) => {
            keys.sort_by_key(|key| std::cmp::Reverse(text(key, "lastUsedOn").to_owned()));
        }
    }
    let limit = wanted.limit.and_then(|limit| usize::try_from(limit).ok());
    keys.truncate(limit.unwrap_or(usize::MAX));
    keys
}

fn state(key: &Value) -> String {
    let is_live = key["live"] == true;
    if is_live { "live" } else { "dead" }.to_owned()
}

fn last_used(key: &Value) -> String {
    key["lastUsedOn"].as_str().unwrap_or("never").to_owned()
}

fn installations(key: &Value) -> String {
    let which = all_of(key, "installations", ",");
    match key["app"].as_str() {
        Some(app) => format!("{which} of {app}"),
        None => which,
    }
}

/// The members of a list, or `all` if there is no list.
fn all_of(key: &Value, field: &str, separator: &str) -> String {
    match key[field].as_array() {
        Some(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(separator)
        }
        None => "all".to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(live: bool, sort: Option<KeyOrder>, limit: Option<u32>) -> Vec<String> {
        let keys = vec![
            json!({ "name": "b", "live": true, "expiresAt": null, "lastUsedOn": "2026-11-01" }),
            json!({ "name": "c", "live": false, "expiresAt": "2026-11-02T00:00:00Z" }),
            json!({ "name": "a", "live": true, "expiresAt": "2027-01-01T00:00:00Z", "lastUsedOn": "2026-11-30" }),
        ];
        let wanted = ListKeys { live, sort, limit };
        let chosen = chosen(keys, &wanted);
        chosen.iter().map(|key| member(key, "name")).collect()
    }

    #[test]
    fn keys_are_filtered_sorted_and_limited() {
        assert_eq!(names(false, None, None), ["b", "c", "a"]);
        assert_eq!(names(false, Some(KeyOrder::Name), None), ["a", "b", "c"]);
        assert_eq!(names(false, Some(KeyOrder::Expires), None), ["c", "a", "b"]);
        assert_eq!(names(false, Some(KeyOrder::Used), None), ["a", "b", "c"]);
        assert_eq!(names(true, Some(KeyOrder::Expires), Some(1)), ["a"]);
    }

    #[test]
    fn row_says_which_installations_and_calls() {
        let key =
            json!({ "live": true, "app": "staging", "installations": ["i1", "i2"], "calls": null });
        assert_eq!(installations(&key), "i1,i2 of staging");
        assert_eq!(all_of(&key, "calls", "; "), "all");
        assert_eq!(
            (state(&key), last_used(&key)),
            ("live".into(), "never".into())
        );
    }
}
