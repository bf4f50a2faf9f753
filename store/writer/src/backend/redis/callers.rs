//! The records of callers' keys.

use std::collections::HashMap;

use redis::AsyncCommands;
use store::connection::Connection;
use store::record::Fields;
use store::{Invalidation, KeyHash, keys};

use super::RedisBackend;
use crate::error::WriteError;

pub(super) async fn put(
    backend: &RedisBackend,
    key: &KeyHash,
    fields: Fields,
) -> Result<(), WriteError> {
    add_to_all(backend, key).await?;
    let mut set = redis::cmd("HSET");
    set.arg(backend.key(keys::caller(key)));
    for (name, value) in fields.iter() {
        set.arg(name).arg(value);
    }
    backend
        .run::<(), _>(async |mut redis: Connection| set.query_async(&mut redis).await)
        .await?;
    announce(backend, key).await
}

pub(super) async fn insert(
    backend: &RedisBackend,
    key: &KeyHash,
    fields: Fields,
) -> Result<bool, WriteError> {
    let mut call = backend.insert.call([keys::caller(key)]);
    for (name, value) in fields.iter() {
        call.arg(name).arg(value);
    }
    let is_new: bool = backend.run(|redis| call.run(redis)).await?;
    // Also if the record was there: the process may have ended between the two.
    add_to_all(backend, key).await?;
    if is_new {
        announce(backend, key).await?;
    }
    Ok(is_new)
}

pub(super) async fn all(backend: &RedisBackend) -> Result<Vec<(KeyHash, Fields)>, WriteError> {
    let key = backend.key(keys::CALLERS);
    let hashes: Vec<String> = backend
        .run(async |mut redis: Connection| redis.smembers(key).await)
        .await?;
    let mut callers = Vec::with_capacity(hashes.len());
    for hash in hashes.iter().filter_map(|hash| hash.parse().ok()) {
        let key = backend.key(keys::caller(&hash));
        let fields: HashMap<String, Vec<u8>> = backend
            .run(async |mut redis: Connection| redis.hgetall(key).await)
            .await?;
        callers.push((hash, fields.into_iter().collect()));
    }
    Ok(callers)
}

async fn add_to_all(backend: &RedisBackend, key: &KeyHash) -> Result<(), WriteError> {
    let (all, hash) = (backend.key(keys::CALLERS), key.to_string());
    backend
        .run(async |mut redis: Connection| redis.sadd(all, hash).await)
        .await
}

async fn announce(backend: &RedisBackend, key: &KeyHash) -> Result<(), WriteError> {
    let message = Invalidation::Caller(*key).to_message().unwrap_or_default();
    let channel = backend.client.names().invalidations();
    backend
        .run(async |mut redis: Connection| redis.publish(channel, message).await)
        .await
}
