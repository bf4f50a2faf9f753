//! Apps, and the installations of locations and companies under each.

use std::collections::HashMap;

use futures_util::future::try_join;
use redis::{AsyncCommands, Cmd};
use store::connection::Connection;
use store::record::Fields;
use store::{AppName, InstallationId, Timestamp, keys};

use super::RedisBackend;
use super::reply::all_or_error;
use crate::backend::Schedule;
use crate::error::WriteError;

/// The ids at GHL of all apps, by their names.
pub(super) async fn all(store: &RedisBackend) -> Result<Fields, WriteError> {
    hash(store, keys::APPS.to_owned()).await
}

/// Gives a name to an app at GHL, unless it is taken. Returns the id of the app that has it.
pub(super) async fn name(
    store: &RedisBackend,
    name: &AppName,
    app_id: &str,
) -> Result<String, WriteError> {
    get_or_insert(store, keys::APPS.to_owned(), name.as_str(), app_id).await
}

/// Frees a name. Whether an app had it.
pub(super) async fn free(store: &RedisBackend, name: &AppName) -> Result<bool, WriteError> {
    let (key, name) = (store.key(keys::APPS), name.as_str());
    store
        .run(async |mut redis: Connection| redis.hdel(key, name).await)
        .await
}

/// The installations of a location or company, by the name of the app.
pub(super) async fn installations(store: &RedisBackend, name: &str) -> Result<Fields, WriteError> {
    let key = store.key(keys::location(name));
    let default = store.run(async |mut redis: Connection| redis.get(key).await);
    let others = hash(store, keys::location_by_app(name));
    let (default, mut found): (Option<String>, Fields) = try_join(default, others).await?;
    if let Some(id) = default {
        found.set(AppName::DEFAULT, id);
    }
    Ok(found)
}

/// The installation of a location or company under an app. Stores `id` if there is none.
pub(super) async fn installation(
    store: &RedisBackend,
    app: &AppName,
    name: &str,
    id: &InstallationId,
) -> Result<String, WriteError> {
    if !app.is_default() {
        let key = keys::location_by_app(name);
        return get_or_insert(store, key, app.as_str(), id.as_str()).await;
    }
    let mut command = redis::cmd("SET");
    command
        .arg(store.key(keys::location(name)))
        .arg(id.as_str());
    command.arg("NX").arg("GET");
    let earlier: Option<String> = store
        .run(async |mut redis: Connection| command.query_async(&mut redis).await)
        .await?;
    Ok(earlier.unwrap_or_else(|| id.to_string()))
}

/// Counts the ids of an app that were due at `by`.
pub(super) async fn count_due(
    store: &RedisBackend,
    app: &AppName,
    by: Timestamp,
) -> Result<u64, WriteError> {
    let mut due = 0;
    for schedule in Schedule::ALL {
        let count = |partition| -> Cmd {
            let mut command = redis::cmd("ZCOUNT");
            command.arg(store.key(schedule.key(partition, app)));
            command.arg("-inf").arg(by.as_millis());
            command
        };
        let counts: Vec<u64> = all_or_error(store.query_all_partitions(count).await?)?;
        due += counts.iter().sum::<u64>();
    }
    Ok(due)
}

async fn hash(store: &RedisBackend, key: String) -> Result<Fields, WriteError> {
    let key = store.key(key);
    let fields: HashMap<String, Vec<u8>> = store
        .run(async |mut redis: Connection| redis.hgetall(key).await)
        .await?;
    Ok(fields.into_iter().collect())
}

/// A repetition, after an acknowledgement that was lost, returns the same.
async fn get_or_insert(
    store: &RedisBackend,
    key: String,
    field: &str,
    value: &str,
) -> Result<String, WriteError> {
    let key = store.key(key);
    let mut both = redis::pipe();
    both.hset_nx(&key, field, value).ignore();
    both.hget(&key, field);
    let (held,): (String,) = store
        .run(async |mut redis: Connection| both.query_async(&mut redis).await)
        .await?;
    Ok(held)
}
