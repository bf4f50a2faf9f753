//! The store in Redis.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind};
use secrecy::SecretString;
use store::connection::{self, BadAddress, CommandError, Link};
use store::record::Fields;
use store::{Change, InstallationId, KeyHash, Timestamp, keys};

use super::{Answer, Backend, DEPTH, Loaded, Stock, Swap, Upcoming};
use crate::writer::WriteError;

/// The rank of the last member that a look sees.
const LAST: isize = DEPTH as isize - 1;

pub struct RedisBackend {
    link: Link,
    swap: Script,
    claim: Script,
}

impl RedisBackend {
    /// # Errors
    /// When the URL is malformed. Nothing is connected yet.
    pub fn new(url: &SecretString) -> Result<Self, BadAddress> {
        let client = connection::client(url)?;
        Ok(Self {
            link: Link::new(client)?,
            swap: Script::new(include_str!("redis/swap.lua")),
            claim: Script::new(include_str!("redis/claim.lua")),
        })
    }

    async fn run<T, F>(&self, command: impl FnOnce(ConnectionManager) -> F) -> Result<T, WriteError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.link.run(command).await.map_err(classify)
    }
}

impl Backend for RedisBackend {
    fn load<'a>(&'a self, id: &'a InstallationId) -> Answer<'a, Loaded> {
        type Hash = HashMap<String, Vec<u8>>;
        Box::pin(async move {
            let mut both = redis::pipe();
            both.atomic()
                .hgetall(keys::access(id))
                .hgetall(keys::refresh(id))
                .cmd("TIME");
            let (access, refresh, now): (Hash, Hash, (i64, i64)) = self
                .run(async |mut redis: ConnectionManager| both.query_async(&mut redis).await)
                .await?;
            Ok(Loaded {
                access: access.into_iter().collect(),
                refresh: refresh.into_iter().collect(),
                now: timestamp(now),
            })
        })
    }

    fn swap(&self, swap: Swap) -> Answer<'_, bool> {
        Box::pin(async move {
            let partition = swap.id.partition();
            let mut call = self.swap.prepare_invoke();
            call.key(keys::access(&swap.id))
                .key(keys::refresh(&swap.id))
                .key(keys::due(partition))
                .key(keys::expiry(partition))
                .arg(swap.id.as_str())
                .arg(&swap.expected)
                .arg(
                    swap.wake_at
                        .map(|at| at.as_millis().to_string())
                        .unwrap_or_default(),
                )
                .arg(
                    swap.expires_at
                        .map_or("+inf".to_owned(), |at| at.as_millis().to_string()),
                )
                .arg(keys::CHANGES)
                .arg(swap.announce.as_deref().unwrap_or_default());
            for fields in [&swap.access, &swap.refresh] {
                call.arg(2 * fields.iter().count());
                for (name, value) in fields.iter() {
                    call.arg(name).arg(value);
                }
            }
            call.arg(&swap.removed);
            self.run(async |mut redis: ConnectionManager| call.invoke_async(&mut redis).await)
                .await
        })
    }

    fn claim(
        &self,
        partition: u8,
        limit: usize,
        claim: Duration,
    ) -> Answer<'_, Vec<InstallationId>> {
        Box::pin(async move {
            let mut call = self.claim.key(keys::due(partition));
            call.arg(limit).arg(millis(claim));
            let ids: Vec<String> = self
                .run(async |mut redis: ConnectionManager| call.invoke_async(&mut redis).await)
                .await?;
            Ok(parse_ids(&ids))
        })
    }

    fn hasten<'a>(&'a self, id: &'a InstallationId, at: Timestamp) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut command = redis::cmd("ZADD");
            command
                .arg(keys::due(id.partition()))
                .arg("XX")
                .arg("LT")
                .arg(at.as_millis())
                .arg(id.as_str());
            self.run(async |mut redis: ConnectionManager| command.query_async(&mut redis).await)
                .await
        })
    }

    fn unschedule<'a>(&'a self, id: &'a InstallationId) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = keys::due(id.partition());
            self.run(async |mut redis: ConnectionManager| redis.zrem(key, id.as_str()).await)
                .await
        })
    }

    fn upcoming(&self) -> Answer<'_, Upcoming> {
        Box::pin(async move {
            let mut heads = redis::pipe();
            heads.cmd("TIME");
            for partition in 0..=u8::MAX {
                heads.zrange_withscores(keys::due(partition), 0, LAST);
            }
            let (now, due): ((i64, i64), Heads) = split(
                self.run(async |mut redis: ConnectionManager| heads.query_async(&mut redis).await)
                    .await?,
            )?;
            let scheduled = (0..=u8::MAX).zip(&due).flat_map(|(partition, heads)| {
                let times = heads.iter().filter_map(|(_, score)| at(*score));
                times.map(move |at| (partition, at))
            });
            Ok(Upcoming::of(scheduled, timestamp(now)))
        })
    }

    fn stock(&self) -> Answer<'_, Stock> {
        Box::pin(async move {
            let mut counts = redis::pipe();
            let mut heads = redis::pipe();
            heads.cmd("TIME");
            for partition in 0..=u8::MAX {
                let key = keys::expiry(partition);
                heads.zrange_withscores(&key, 0, 0);
                counts.zcard(&key).zcount(&key, "-inf", "(+inf");
            }
            let (now, heads): ((i64, i64), Heads) = split(
                self.run(async |mut redis: ConnectionManager| heads.query_async(&mut redis).await)
                    .await?,
            )?;
            let counts: Vec<u64> = self
                .run(async |mut redis: ConnectionManager| counts.query_async(&mut redis).await)
                .await?;
            let now = timestamp(now);
            let expiries = heads.iter().flatten().filter_map(|(_, score)| at(*score));
            Ok(Stock {
                installations: counts.iter().step_by(2).sum(),
                refreshing: counts.iter().skip(1).step_by(2).sum(),
                nearest_expiry: expiries.min().map(|expiry| expiry.since(now)),
            })
        })
    }

    fn memory(&self) -> Answer<'_, Option<u64>> {
        Box::pin(async move {
            let mut command = redis::cmd("INFO");
            command.arg("memory");
            let info: String = self
                .run(async |mut redis: ConnectionManager| command.query_async(&mut redis).await)
                .await?;
            let used = info
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"));
            Ok(used.and_then(|bytes| bytes.trim().parse().ok()))
        })
    }

    fn ids(&self, partition: u8) -> Answer<'_, Vec<InstallationId>> {
        Box::pin(async move {
            let ids: Vec<String> = self
                .run(async |mut redis: ConnectionManager| {
                    redis.zrange(keys::expiry(partition), 0, -1).await
                })
                .await?;
            let mut ids = parse_ids(&ids);
            ids.sort_unstable();
            Ok(ids)
        })
    }

    fn location<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            self.run(async |mut redis: ConnectionManager| redis.get(keys::location(name)).await)
                .await
        })
    }

    fn name_location<'a>(&'a self, name: &'a str, id: &'a InstallationId) -> Answer<'a, String> {
        Box::pin(async move {
            let mut command = redis::cmd("SET");
            command
                .arg(keys::location(name))
                .arg(id.as_str())
                .arg("NX")
                .arg("GET");
            let earlier: Option<String> = self
                .run(async |mut redis: ConnectionManager| command.query_async(&mut redis).await)
                .await?;
            Ok(earlier.unwrap_or_else(|| id.to_string()))
        })
    }

    fn put_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> Answer<'a, ()> {
        Box::pin(async move {
            // In this order: from the first step on every call needs a key.
            let hash = key.to_string();
            self.run::<(), _>(async |mut redis: ConnectionManager| {
                redis.sadd(keys::CALLERS, hash).await
            })
            .await?;
            let mut set = redis::cmd("HSET");
            set.arg(keys::caller(key));
            for (name, value) in fields.iter() {
                set.arg(name).arg(value);
            }
            self.run::<(), _>(async |mut redis: ConnectionManager| {
                set.query_async(&mut redis).await
            })
            .await?;
            let message = Change::Caller(*key).to_message().unwrap_or_default();
            self.run(async |mut redis: ConnectionManager| {
                redis.publish(keys::CHANGES, message).await
            })
            .await
        })
    }

    fn callers(&self) -> Answer<'_, Vec<(KeyHash, Fields)>> {
        Box::pin(async move {
            let hashes: Vec<String> = self
                .run(async |mut redis: ConnectionManager| redis.smembers(keys::CALLERS).await)
                .await?;
            let mut callers = Vec::with_capacity(hashes.len());
            for hash in hashes.iter().filter_map(|hash| hash.parse().ok()) {
                let fields: HashMap<String, Vec<u8>> = self
                    .run(async |mut redis: ConnectionManager| {
                        redis.hgetall(keys::caller(&hash)).await
                    })
                    .await?;
                callers.push((hash, fields.into_iter().collect()));
            }
            Ok(callers)
        })
    }

    fn remember<'a>(&'a self, key: &'a str, value: &'a str, ttl: Duration) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut command = redis::cmd("SET");
            command
                .arg(key)
                .arg(value)
                .arg("NX")
                .arg("PX")
                .arg(millis(ttl));
            let set: Option<String> = self
                .run(async |mut redis: ConnectionManager| command.query_async(&mut redis).await)
                .await?;
            Ok(set.is_some())
        })
    }

    fn recall<'a>(&'a self, key: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            self.run(async |mut redis: ConnectionManager| redis.get(key).await)
                .await
        })
    }

    fn forget<'a>(&'a self, key: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            self.run(async |mut redis: ConnectionManager| redis.del(key).await)
                .await
        })
    }
}

impl std::fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBackend").finish_non_exhaustive()
    }
}

/// The first entry and score of each partition.
type Heads = Vec<Vec<(String, f64)>>;

/// Tells the first answer of a pipeline, the time, from the heads that follow it.
fn split(mut answers: Vec<redis::Value>) -> Result<((i64, i64), Heads), WriteError> {
    let heads = answers.split_off(1);
    let now = redis::from_redis_value(answers.remove(0))
        .map_err(|error| classify(RedisError::from(error).into()))?;
    let heads = heads
        .into_iter()
        .map(redis::from_redis_value)
        .collect::<Result<_, _>>()
        .map_err(|error| classify(RedisError::from(error).into()))?;
    Ok((now, heads))
}

/// A score as a time: scores are whole milliseconds, far below 2^53, or infinite for "never".
fn at(score: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    score
        .is_finite()
        .then_some(Timestamp::from_millis(score as i64))
}

fn timestamp((seconds, micros): (i64, i64)) -> Timestamp {
    Timestamp::from_millis(seconds * 1000 + micros / 1000)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn parse_ids(ids: &[String]) -> Vec<InstallationId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// Whether Redis is away, or there and unwilling.
fn classify(error: CommandError) -> WriteError {
    let CommandError::Redis(error) = error else {
        return WriteError::Unavailable(Box::new(error));
    };
    let is_refusal = match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown => false,
            // READONLY, NOPERM, OOM, MISCONF and whatever else a server says no with.
            _ => true,
        },
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        _ => false,
    };
    if is_refusal {
        WriteError::Refused(Box::new(error))
    } else {
        WriteError::Unavailable(Box::new(error))
    }
}
