//! The lists of sealing keys.

use std::collections::HashMap;

use redis::AsyncCommands;
use store::connection::Connection;
use store::key_list::RingKind;
use store::keys;
use store::record::Fields;

use super::RedisBackend;
use crate::error::WriteError;

pub(super) async fn get(backend: &RedisBackend, ring: RingKind) -> Result<Fields, WriteError> {
    let key = backend.key(keys::key_list(ring));
    let fields: HashMap<String, Vec<u8>> = backend
        .run(async |mut redis: Connection| redis.hgetall(key).await)
        .await?;
    Ok(fields.into_iter().collect())
}

pub(super) async fn swap(
    backend: &RedisBackend,
    ring: RingKind,
    expected: &[u8],
    next: Fields,
) -> Result<bool, WriteError> {
    let mut call = backend.replace_list.call([keys::key_list(ring)]);
    call.arg(expected);
    for (name, value) in next.iter() {
        call.arg(name).arg(value);
    }
    backend.run(|redis| call.run(redis)).await
}
