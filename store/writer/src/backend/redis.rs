//! The store in Redis.

mod apps;
mod audit;
mod callers;
mod confirm;
mod count;
mod facts;
mod identity;
mod index;
mod key_list;
pub(crate) mod moving;
mod outbox;
mod reply;
mod schedule;
mod script;
mod stats;

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use redis::{AsyncCommands, Cmd, FromRedisValue, RedisResult};
use store::connection::{BadAddress, CommandError, Connection, RedisClient};
use store::key_list::RingKind;
use store::record::Fields;
use store::{AppName, InstallationId, KeyHash, Timestamp, keys};

use super::outbox::KEPT_FOR;
use super::{
    Backend, BackendFuture, CanaryReading, Confirmation, DueEntries, DuePoll, Loaded, Outline,
    Schedule, StoreStats, Swap,
};
use crate::check::{Facts, ProbeError};
use crate::error::WriteError;
use crate::identity::{Servers, StoreMark};
use confirm::ReplicationConfirmer;
use outbox::OutboxScripts;
use reply::{all_or_error, classify, millis, parse_ids, probe_error, timestamp};
use script::Script;
use tokio::time::timeout;

/// How long to wait for one partition of a Cluster, when the other partitions are useful without it.
const PARTITION_TIMEOUT: Duration = Duration::from_millis(500);

/// In the place of the time when an installation is due.
const KEEPS_SCHEDULE: &str = "keep";

/// The TTL of a probe's value, for the case that it cannot be deleted.
const PROBE_TTL: Duration = Duration::from_secs(60);

/// The store on one server, behind Sentinels, or in a Cluster.
pub struct RedisBackend {
    client: RedisClient,
    /// `None`: a write needs no replica.
    confirmer: Option<ReplicationConfirmer>,
    /// The number of replicas that must have a write.
    replicas: usize,
    load: Script,
    swap: Script,
    claim: Script,
    replace: Script,
    insert: Script,
    replace_list: Script,
    take: Script,
    used: Script,
    rename: Script,
    remove: Script,
    count: Script,
    outbox: OutboxScripts,
}

impl RedisBackend {
    /// The store that the client connects to. A confirmed write is on at least `replicas` replicas.
    ///
    /// # Errors
    /// When no second client can be created for the confirmations.
    pub fn new(client: RedisClient, replicas: usize) -> Result<Self, BadAddress> {
        let confirmer = match replicas {
            0 => None,
            _ => Some(ReplicationConfirmer::start(
                &client.with_own_connections()?,
                replicas,
            )),
        };
        let names = client.names().clone();
        Ok(Self {
            client,
            confirmer,
            replicas,
            load: Script::unique(include_str!("redis/load.lua"), &names),
            swap: Script::new(
                concat!(
                    include_str!("redis/outbox.lua"),
                    include_str!("redis/swap.lua")
                ),
                &names,
            ),
            claim: Script::new(include_str!("redis/claim.lua"), &names),
            replace: Script::new(include_str!("redis/replace.lua"), &names),
            take: Script::new(include_str!("redis/take.lua"), &names),
            insert: Script::new(include_str!("redis/insert.lua"), &names),
            used: Script::new(include_str!("redis/used.lua"), &names),
            rename: Script::new(include_str!("redis/rename.lua"), &names),
            remove: Script::new(include_str!("redis/remove.lua"), &names),
            count: Script::new(include_str!("redis/count.lua"), &names),
            outbox: OutboxScripts::new(&names),
            replace_list: Script::new(include_str!("redis/replace_list.lua"), &names),
        })
    }

    /// A key as it is in Redis.
    fn key<'k>(&self, key: impl Into<Cow<'k, str>>) -> String {
        self.client.names().key(key)
    }

    async fn run<T, F>(&self, command: impl FnOnce(Connection) -> F) -> Result<T, WriteError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.client.run(command).await.map_err(classify)
    }

    /// The store's time. The nodes of a Cluster have separate clocks; the time of any node is used.
    async fn time(&self) -> Result<Timestamp, WriteError> {
        let time = redis::cmd("TIME");
        let reported = self.run(async |mut redis: Connection| time.query_async(&mut redis).await);
        reported.await.map(timestamp)
    }

    /// Sends one command for every partition: see [`Self::query`].
    async fn query_all_partitions<T: FromRedisValue + Send>(
        &self,
        ask: impl Fn(u8) -> Cmd,
    ) -> Result<Vec<Result<T, WriteError>>, WriteError> {
        self.query((0..=u8::MAX).map(ask)).await
    }

    /// Sends commands for different partitions. A single server gets all commands in one pipeline. In a Cluster each
    /// command is sent separately, and the result contains the errors.
    async fn query<T: FromRedisValue + Send>(
        &self,
        commands: impl Iterator<Item = Cmd>,
    ) -> Result<Vec<Result<T, WriteError>>, WriteError> {
        if self.client.is_cluster() {
            let questions = commands.map(|command| {
                let answer = self
                    .run(async move |mut redis: Connection| command.query_async(&mut redis).await);
                timeout(PARTITION_TIMEOUT, answer)
                    .map(|answer| answer.unwrap_or_else(|_| Err(classify(CommandError::TimedOut))))
            });
            return Ok(join_all(questions).await);
        }
        let mut all = redis::pipe();
        let mut is_empty = true;
        for command in commands {
            all.add_command(command);
            is_empty = false;
        }
        if is_empty {
            return Ok(Vec::new());
        }
        let answers: Vec<T> = self
            .run(async |mut redis: Connection| all.query_async(&mut redis).await)
            .await?;
        Ok(answers.into_iter().map(Ok).collect())
    }
}

impl Backend for RedisBackend {
    fn load<'a>(&'a self, id: &'a InstallationId) -> BackendFuture<'a, Loaded> {
        type Hash = HashMap<String, Vec<u8>>;
        Box::pin(async move {
            let call = self.load.call([keys::access(id), keys::refresh(id)]);
            let (access, refresh, now): (Hash, Hash, (i64, i64)) =
                self.run(|redis| call.run(redis)).await?;
            Ok(Loaded {
                access: access.into_iter().collect(),
                refresh: refresh.into_iter().collect(),
                now: timestamp(now),
            })
        })
    }

    fn swap(&self, swap: Swap) -> BackendFuture<'_, bool> {
        Box::pin(async move {
            let partition = swap.id.partition();
            let mut written = vec![
                keys::access(&swap.id),
                keys::refresh(&swap.id),
                swap.schedule.key(partition, &swap.app),
                keys::expiry(partition),
                swap.schedule.other().key(partition, &swap.app),
            ];
            let families = swap.families.iter();
            written.extend(families.map(|family| keys::family(partition, family)));
            written.extend(outbox::keys_of_event(&swap));
            let mut call = self.swap.call(written);
            call.arg(swap.id.as_str())
                .arg(&swap.expected)
                .arg(match swap.wake_at {
                    _ if swap.keeps_schedule => KEEPS_SCHEDULE.to_owned(),
                    Some(at) => at.as_millis().to_string(),
                    None => String::new(),
                })
                .arg(
                    swap.expires_at
                        .map_or("+inf".to_owned(), |at| at.as_millis().to_string()),
                )
                .arg(self.client.names().invalidations())
                .arg(swap.announce.as_deref().unwrap_or_default())
                .arg(swap.families.len())
                .arg(outbox::message_of_event(&swap))
                .arg(millis(KEPT_FOR));
            for fields in [&swap.access, &swap.refresh] {
                call.arg(2 * fields.iter().count());
                for (name, value) in fields.iter() {
                    call.arg(name).arg(value);
                }
            }
            call.arg(&swap.removed);
            self.run(|redis| call.run(redis)).await
        })
    }

    fn mark(&self) -> BackendFuture<'_, Option<StoreMark>> {
        Box::pin(identity::mark(self))
    }

    fn make_mark<'a>(&'a self, mark: &'a StoreMark) -> BackendFuture<'a, StoreMark> {
        Box::pin(identity::make_mark(self, mark))
    }

    fn key_list(&self, ring: RingKind) -> BackendFuture<'_, Fields> {
        Box::pin(key_list::get(self, ring))
    }

    fn swap_key_list<'a>(
        &'a self,
        ring: RingKind,
        expected: &'a [u8],
        next: Fields,
    ) -> BackendFuture<'a, bool> {
        Box::pin(key_list::swap(self, ring, expected, next))
    }

    fn servers(&self) -> BackendFuture<'_, Option<Servers>> {
        Box::pin(identity::servers(&self.client))
    }

    fn write_canary<'a>(
        &'a self,
        name: &'a str,
        number: i64,
    ) -> BackendFuture<'a, Vec<CanaryReading>> {
        Box::pin(async move {
            let write = |partition| {
                let key = self.key(keys::canary(partition, name));
                identity::write_canary(&key, number)
            };
            if self.client.is_cluster() {
                let previous = self.query_all_partitions(write).await?;
                return Ok(previous.into_iter().map(Result::ok).collect());
            }
            let write = write(0);
            let previous =
                self.run(async |mut redis: Connection| write.query_async(&mut redis).await);
            Ok(vec![Some(previous.await?)])
        })
    }

    fn server_change_count(&self) -> u64 {
        self.load.noscript_count() + self.client.switches()
    }

    fn facts(&self) -> BackendFuture<'_, Vec<Facts>> {
        Box::pin(facts::of_masters(&self.client, self.replicas))
    }

    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>> {
        Box::pin(async move {
            let value = store::random::hex::<8>();
            let key = keys::probe(partition, &value);
            let written = self.put_if_absent(&key, &value, PROBE_TTL).await;
            written.map_err(|error| probe_error(error, ProbeError::NoWrites))?;
            let call = self.take.call([key]);
            let taken: Result<Option<String>, _> = self.run(|redis| call.run(redis)).await;
            let taken = taken.map_err(|error| probe_error(error, ProbeError::NoScripts))?;
            (taken == Some(value))
                .then_some(())
                .ok_or(ProbeError::ValueLost)
        })
    }

    fn can_fail_over(&self) -> bool {
        self.confirmer.is_some()
    }

    fn confirm<'a>(
        &'a self,
        id: &'a InstallationId,
        revision: &'a [u8],
    ) -> BackendFuture<'a, Confirmation> {
        Box::pin(async move {
            match &self.confirmer {
                Some(confirmer) => Ok(confirmer.confirm(id, revision).await),
                None => Ok(Confirmation::Confirmed),
            }
        })
    }

    fn claim<'a>(
        &'a self,
        schedule: Schedule,
        app: &'a AppName,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<InstallationId>> {
        Box::pin(async move {
            let key = schedule.key(due.partition, app);
            let ids = self.claim_entries(key, due, claim).await?;
            Ok(parse_ids(&ids))
        })
    }

    fn reschedule_earlier<'a>(
        &'a self,
        id: &'a InstallationId,
        app: &'a AppName,
        at: Timestamp,
    ) -> BackendFuture<'a, ()> {
        let keys = Schedule::ALL.map(|schedule| schedule.key(id.partition(), app));
        Box::pin(self.reschedule_sooner(keys, id.as_str(), at))
    }

    fn unschedule<'a>(&'a self, id: &'a InstallationId, app: &'a AppName) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let mut remove = redis::pipe();
            for schedule in Schedule::ALL {
                let key = self.key(schedule.key(id.partition(), app));
                remove.zrem(key, id.as_str()).ignore();
            }
            self.run(async |mut redis: Connection| remove.query_async(&mut redis).await)
                .await
        })
    }

    fn poll_due<'a>(&'a self, schedule: Schedule, app: &'a AppName) -> BackendFuture<'a, DuePoll> {
        Box::pin(async move {
            let all: Vec<u8> = (0..=u8::MAX).collect();
            self.poll_schedule(&all, |partition| schedule.key(partition, app))
                .await
        })
    }

    fn count_due<'a>(&'a self, app: &'a AppName, by: Timestamp) -> BackendFuture<'a, u64> {
        Box::pin(apps::count_due(self, app, by))
    }

    fn apps(&self) -> BackendFuture<'_, Fields> {
        Box::pin(apps::all(self))
    }

    fn free_app<'a>(&'a self, name: &'a AppName) -> BackendFuture<'a, bool> {
        Box::pin(apps::free(self, name))
    }

    fn name_app<'a>(&'a self, name: &'a AppName, app_id: &'a str) -> BackendFuture<'a, String> {
        Box::pin(apps::name(self, name, app_id))
    }

    fn stats(&self) -> BackendFuture<'_, StoreStats> {
        Box::pin(count::stats(self))
    }

    fn count_expiring(&self, by: Timestamp) -> BackendFuture<'_, u64> {
        Box::pin(count::expiring(self, by))
    }

    fn outlines(
        &self,
        partition: u8,
        from: usize,
        limit: usize,
    ) -> BackendFuture<'_, Vec<Option<Outline>>> {
        Box::pin(count::outlines(self, partition, from, limit))
    }

    fn memory(&self) -> BackendFuture<'_, Option<u64>> {
        Box::pin(facts::memory(self))
    }

    fn family<'a>(&'a self, family: &'a str) -> BackendFuture<'a, Vec<InstallationId>> {
        Box::pin(async move {
            let members = |partition| {
                let mut command = redis::cmd("HKEYS");
                command.arg(self.key(keys::family(partition, family)));
                command
            };
            let members: Vec<Vec<String>> =
                all_or_error(self.query_all_partitions(members).await?)?;
            let mut ids = parse_ids(&members.concat());
            ids.sort_unstable();
            Ok(ids)
        })
    }

    fn ids(&self, partition: u8) -> BackendFuture<'_, Vec<InstallationId>> {
        Box::pin(async move {
            let key = self.key(keys::expiry(partition));
            let ids: Vec<String> = self
                .run(async |mut redis: Connection| redis.zrange(key, 0, -1).await)
                .await?;
            let mut ids = parse_ids(&ids);
            ids.sort_unstable();
            Ok(ids)
        })
    }

    fn put_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, ()> {
        Box::pin(callers::put(self, key, fields))
    }

    fn insert_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, bool> {
        Box::pin(callers::insert(self, key, fields))
    }

    fn callers(&self) -> BackendFuture<'_, Vec<(KeyHash, Fields)>> {
        Box::pin(callers::all(self))
    }

    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut command = redis::cmd("SET");
            command
                .arg(self.key(key))
                .arg(value)
                .arg("NX")
                .arg("PX")
                .arg(millis(ttl));
            let set: Option<String> = self
                .run(async |mut redis: Connection| command.query_async(&mut redis).await)
                .await?;
            Ok(set.is_some())
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BackendFuture<'a, Option<String>> {
        Box::pin(async move {
            let key = self.key(key);
            self.run(async |mut redis: Connection| redis.get(key).await)
                .await
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<&'a str>,
        next: Option<&'a str>,
        ttl: Duration,
    ) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut call = self.replace.call([key.to_owned()]);
            call.arg(expected.unwrap_or_default())
                .arg(next.unwrap_or_default())
                .arg(millis(ttl));
            self.run(|redis| call.run(redis)).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let key = self.key(key);
            self.run(async |mut redis: Connection| redis.del(key).await)
                .await
        })
    }
}

impl std::fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBackend").finish_non_exhaustive()
    }
}
