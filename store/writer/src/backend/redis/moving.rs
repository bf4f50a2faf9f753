//! Writes whole keys, and marks the store while it is incomplete: see [`crate::moving`].

mod commands;

use std::collections::HashMap;
use std::sync::Arc;

use redis::{AsyncCommands, Cmd, Pipeline};
use store::connection::Connection;
use store::key_list::RingKind;
use store::record::Fields;
use store::{InstallationId, keys};

use super::RedisBackend;
use super::script::Script;
use crate::backend::{Backend, Confirmation, REVISION};
use crate::error::WriteError;
use crate::identity::{CLOSED, FORMAT, StoreId};
use crate::moving::{Part, TargetState};

/// The most bytes in one request. A slow line carries them within the time of a command.
pub(crate) const REQUEST_BYTES: usize = 128 * 1024;
/// The most keys or commands in one request.
pub(crate) const REQUEST_KEYS: usize = 512;
/// How long to wait for replicas, below the time of a command.
const WAIT_MS: u64 = 1000;

/// A store that another one is moved to.
#[derive(Debug)]
pub(crate) struct Target {
    redis: Arc<RedisBackend>,
    put: Script,
    drop: Script,
    mark: Script,
}

/// The new mark at the target's own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewMark {
    /// Brokers refuse the store.
    Closed,
    /// Brokers may use it.
    Open,
    /// There is no store.
    None,
}

impl Target {
    pub(crate) fn new(redis: Arc<RedisBackend>) -> Self {
        let names = redis.client.names().clone();
        Self {
            redis,
            put: Script::new(include_str!("move_put.lua"), &names),
            drop: Script::new(include_str!("move_drop.lua"), &names),
            mark: Script::new(include_str!("move_mark.lua"), &names),
        }
    }

    pub(crate) fn backend(&self) -> &RedisBackend {
        &self.redis
    }

    /// The mark of the target, as the store with this id sees it.
    pub(crate) async fn state(&self, own: &StoreId) -> Result<TargetState, WriteError> {
        let key = self.redis.key(keys::STORE);
        let mut fields: HashMap<String, String> = self
            .redis
            .run(async |mut redis: Connection| redis.hgetall(key).await)
            .await?;
        let Some(id) = fields.remove("id").map(StoreId::from_text) else {
            return Ok(match self.has_data().await? {
                true => TargetState::Foreign(None),
                false => TargetState::Empty,
            });
        };
        if id != *own {
            return Ok(TargetState::Foreign(Some(id)));
        }
        let moved = fields.remove("move");
        let is_closed = fields.get("format") == Some(&CLOSED.to_string());
        Ok(match is_closed {
            true => TargetState::Closed(moved),
            false => TargetState::Open(moved),
        })
    }

    async fn has_data(&self) -> Result<bool, WriteError> {
        let redis = &self.redis;
        Ok(redis.stats().await?.installations > 0
            || !redis.callers().await?.is_empty()
            || redis.has_events().await?
            || !redis.apps().await?.is_empty()
            || !redis.key_list(RingKind::Access).await?.is_empty()
            || !redis.key_list(RingKind::Refresh).await?.is_empty())
    }

    /// Changes the mark, if it is that of the move `expected`; `None`: if there is none. Whether it was so.
    pub(crate) async fn set_mark(
        &self,
        own: &StoreId,
        expected: Option<&str>,
        (id, mark): (&str, NewMark),
    ) -> Result<bool, WriteError> {
        let mut call = self.mark.call([keys::STORE.to_owned()]);
        let format = match mark {
            NewMark::Closed => CLOSED.to_string(),
            NewMark::Open => FORMAT.to_string(),
            NewMark::None => String::new(),
        };
        call.arg(own.as_str()).arg(expected.unwrap_or_default());
        call.arg(id).arg(format);
        self.redis.run(|redis| call.run(redis)).await
    }

    /// Writes a record, unless another revision is there. Whether it is there now.
    pub(crate) async fn put_record(
        &self,
        id: &InstallationId,
        access: &Fields,
        refresh: &Fields,
    ) -> Result<bool, WriteError> {
        let mut call = self.put.call([keys::access(id), keys::refresh(id)]);
        call.arg(refresh.bytes(REVISION).unwrap_or_default());
        for fields in [access, refresh] {
            call.arg(2 * fields.iter().count());
            for (name, value) in fields.iter() {
                call.arg(name).arg(value);
            }
        }
        self.redis.run(|redis| call.run(redis)).await
    }

    /// Removes a record, if it has this revision. Whether there is none now.
    pub(crate) async fn drop_record(
        &self,
        id: &InstallationId,
        refresh: &Fields,
    ) -> Result<bool, WriteError> {
        let mut call = self.drop.call([keys::access(id), keys::refresh(id)]);
        call.arg(refresh.bytes(REVISION).unwrap_or_default());
        self.redis.run(|redis| call.run(redis)).await
    }

    /// The revision of a record; `None` if there is no record.
    pub(crate) async fn revision(
        &self,
        id: &InstallationId,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        let key = self.redis.key(keys::refresh(id));
        self.redis
            .run(async |mut redis: Connection| redis.hget(key, REVISION).await)
            .await
    }

    /// Writes keys that are no records in the place of what they held. Returns how many replicas have them, if
    /// `replicas` are wanted.
    pub(crate) async fn put(&self, parts: &[Part], replicas: usize) -> Result<usize, WriteError> {
        let names = self.redis.client.names();
        let replace = |part: &Part| commands::replace(part, names);
        self.write(parts, replace, replicas).await
    }

    /// Writes keys that are no records and that may be there. Sets and sorted sets keep their members.
    pub(crate) async fn add(&self, parts: &[Part], replicas: usize) -> Result<usize, WriteError> {
        let names = self.redis.client.names();
        self.write(parts, |part| commands::add(part, names), replicas)
            .await
    }

    async fn write(
        &self,
        parts: &[Part],
        commands: impl Fn(&Part) -> Vec<Cmd>,
        replicas: usize,
    ) -> Result<usize, WriteError> {
        let mut missing = usize::MAX;
        for some in self.of_one_server(parts) {
            for mut request in commands::requests(some.iter().flat_map(&commands)) {
                if replicas == 0 {
                    self.send::<()>(&request).await?;
                    continue;
                }
                request.cmd("WAIT").arg(replicas).arg(WAIT_MS);
                let (acknowledged,): (usize,) = self.send(&request).await?;
                missing = missing.min(acknowledged);
            }
        }
        Ok(missing)
    }

    /// How many entries each of these keys has that are no records.
    pub(crate) async fn lengths(&self, parts: &[Part]) -> Result<Vec<usize>, WriteError> {
        let mut lengths = Vec::with_capacity(parts.len());
        for some in self.of_one_server(parts) {
            let mut request = redis::pipe();
            for part in some {
                let command = match part {
                    Part::Record { .. } => continue,
                    Part::Hash { .. } => "HLEN",
                    // There is no right to count, and there are few.
                    Part::Set { .. } => "SMEMBERS",
                    Part::List { .. } => "LLEN",
                    Part::Sorted { .. } => "ZCARD",
                    Part::Text { .. } => "EXISTS",
                };
                request.cmd(command).arg(self.redis.key(part.key()));
            }
            let answers: Vec<redis::Value> = self.send(&request).await?;
            lengths.extend(answers.into_iter().map(|answer| match answer {
                redis::Value::Int(count) => usize::try_from(count).unwrap_or_default(),
                redis::Value::Set(members) | redis::Value::Array(members) => members.len(),
                _ => 0,
            }));
        }
        Ok(lengths)
    }

    /// Deletes keys that are no records.
    pub(crate) async fn delete(&self, parts: &[Part]) -> Result<(), WriteError> {
        let names = self.redis.client.names();
        let remove = |part: &Part| commands::remove(part, names);
        self.write(parts, remove, 0).await.map(drop)
    }

    /// Whether enough replicas have a record, as it was written.
    pub(crate) async fn is_confirmed(
        &self,
        id: &InstallationId,
        refresh: &Fields,
    ) -> Result<bool, WriteError> {
        let revision = refresh.bytes(REVISION).unwrap_or_default();
        let confirmed = self.redis.confirm(id, revision).await?;
        Ok(confirmed == Confirmation::Confirmed)
    }

    async fn send<T: redis::FromRedisValue>(&self, request: &Pipeline) -> Result<T, WriteError> {
        self.redis
            .run(async |mut redis: Connection| request.query_async(&mut redis).await)
            .await
    }

    /// Parts that one request may have: in a Cluster those of one slot.
    fn of_one_server<'p>(&self, parts: &'p [Part]) -> impl Iterator<Item = &'p [Part]> {
        let is_cluster = self.redis.client.is_cluster();
        parts.chunk_by(move |one, other| {
            !is_cluster || hash_tag(&one.key()) == hash_tag(&other.key())
        })
    }
}

/// The part of a key that decides its slot: the text in its first braces, or the whole key.
fn hash_tag(key: &str) -> String {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let tag = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    tag.unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_partition_have_one_hash_tag() {
        let id = InstallationId::random();
        assert_eq!(hash_tag(&keys::access(&id)), hash_tag(&keys::refresh(&id)));
        assert_eq!(hash_tag("ghl:loc:L1"), "ghl:loc:L1");
        assert_eq!(hash_tag("a{}b"), "a{}b");
    }
}
