//! The outbox in Redis: a list for each queue, and sorted sets for what is due, for events and for dead letters.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{AsyncCommands, Cmd};
use store::connection::Connection;
use store::names::Names;
use store::{Timestamp, keys};

use super::RedisBackend;
use super::reply::{FirstEntries, all_or_error, millis, score_time};
use super::script::Script;
use crate::backend::outbox::{KEPT_FOR, ListEntries, OutboxBackend};
use crate::backend::{BackendFuture, DueEntries, DuePoll, Swap};
use crate::error::WriteError;
use crate::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};

/// How far the clocks of a Cluster's servers may differ. An event is listed only after this time, since another server
/// could still write one before it.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);

/// The scripts of the outbox.
pub(super) struct OutboxScripts {
    publish: Script,
    settle: Script,
    hasten: Script,
}

impl OutboxScripts {
    pub(super) fn new(names: &Names) -> Self {
        Self {
            publish: Script::new(
                concat!(include_str!("outbox.lua"), include_str!("publish.lua")),
                names,
            ),
            settle: Script::new(
                concat!(include_str!("outbox.lua"), include_str!("settle.lua")),
                names,
            ),
            hasten: Script::new(
                concat!(include_str!("outbox.lua"), include_str!("hasten.lua")),
                names,
            ),
        }
    }
}

impl RedisBackend {
    /// Whether there is an event.
    pub(super) async fn has_events(&self) -> Result<bool, WriteError> {
        let count = |partition| self.command("ZCARD", keys::events(partition));
        let counts: Vec<u64> = all_or_error(self.query_all_partitions(count).await?)?;
        Ok(counts.iter().any(|count| *count > 0))
    }

    fn command(&self, name: &str, key: String) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(self.key(key));
        command
    }

    async fn sum(&self, ask: impl Fn(u8) -> Cmd) -> Result<u64, WriteError> {
        let counts: Vec<Option<u64>> = all_or_error(self.query_all_partitions(ask).await?)?;
        Ok(counts.iter().flatten().sum())
    }
}

impl OutboxBackend for RedisBackend {
    fn publish<'a>(
        &'a self,
        subject: &'a Subject,
        publication: Publication,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let written = written_keys(subject, &publication.endpoints);
            let mut call = self.outbox.publish.call(written);
            call.arg(&subject.name).arg(&publication.message);
            call.arg(u8::from(publication.is_event))
                .arg(millis(KEPT_FOR));
            self.run(|redis| call.run(redis)).await
        })
    }

    fn poll_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        partitions: &'a [u8],
    ) -> BackendFuture<'a, DuePoll> {
        let key = |partition| keys::deliveries_due(partition, endpoint);
        Box::pin(self.poll_schedule(partitions, key))
    }

    fn claim_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let key = keys::deliveries_due(due.partition, endpoint);
            let names = self.claim_entries(key, due, claim).await?;
            Ok(Subject::all_of(due.partition, names))
        })
    }

    fn queued<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        limit: usize,
    ) -> BackendFuture<'a, Queued> {
        Box::pin(async move {
            let Subject { partition, name } = subject;
            let last = isize::try_from(limit).unwrap_or(isize::MAX) - 1;
            let mut both = redis::pipe();
            let queue = self.key(keys::delivery_queue(*partition, endpoint, name));
            both.lrange(queue, 0, last);
            let attempts = self.key(keys::delivery_attempts(*partition, endpoint));
            both.hget(attempts, name);
            let (messages, attempts) = self
                .run(async |mut redis: Connection| both.query_async(&mut redis).await)
                .await?;
            Ok(Queued { messages, attempts })
        })
    }

    fn settle<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        settlement: &'a Settlement,
        pause: Duration,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let Subject { partition, name } = subject;
            let (message, attempts, letter) = match settlement {
                Settlement::Delivered(message) => (message.as_str(), "", ""),
                Settlement::Dead { message, letter } => (message.as_str(), "", letter.as_str()),
                Settlement::Failed { attempts } => ("", attempts.as_str(), ""),
                Settlement::Unsent => ("", "keep", ""),
            };
            let mut call = self.outbox.settle.call([
                keys::delivery_queue(*partition, endpoint, name),
                keys::deliveries_due(*partition, endpoint),
                keys::delivery_attempts(*partition, endpoint),
                keys::dead_letters(*partition, endpoint),
                keys::deliveries_waiting(*partition, endpoint),
            ]);
            call.arg(name).arg(message).arg(attempts);
            call.arg(millis(pause)).arg(letter).arg(millis(KEPT_FOR));
            self.run(|redis| call.run(redis)).await
        })
    }

    fn hasten_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        beyond: Duration,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let hastened = (0..=u8::MAX).map(async |partition| {
                let key = keys::deliveries_due(partition, endpoint);
                let mut call = self.outbox.hasten.call([key]);
                call.arg(millis(beyond));
                self.run(|redis| call.run::<()>(redis)).await
            });
            all_or_error(join_all(hastened).await).map(drop)
        })
    }

    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async move {
            let queues =
                |partition| self.command("ZCARD", keys::deliveries_due(partition, endpoint));
            let failing =
                |partition| self.command("HLEN", keys::delivery_attempts(partition, endpoint));
            let messages = |partition| {
                let mut command =
                    self.command("HGET", keys::deliveries_waiting(partition, endpoint));
                command.arg(keys::WAITING_FIELD);
                command
            };
            let dead = |partition| self.command("ZCARD", keys::dead_letters(partition, endpoint));
            Ok(QueueCount {
                queues: self.sum(queues).await?,
                failing: self.sum(failing).await?,
                messages: self.sum(messages).await?,
                dead_letters: self.sum(dead).await?,
            })
        })
    }

    fn read_list<'a>(
        &'a self,
        list: &'a List,
        ranges: &'a [ListRange],
    ) -> BackendFuture<'a, Vec<ListEntries>> {
        Box::pin(async move {
            let commands = ranges.iter().map(|range| {
                let (first, last) = (range.first.as_millis(), range.last.as_millis());
                let mut command = self.command("ZRANGE", list.key(range.partition));
                match range.is_reverse {
                    true => command.arg(last).arg(first).arg("BYSCORE").arg("REV"),
                    false => command.arg(first).arg(last).arg("BYSCORE"),
                };
                command.arg("LIMIT").arg(0).arg(range.limit);
                command.arg("WITHSCORES");
                command
            });
            let found: Vec<FirstEntries> = all_or_error(self.query(commands).await?)?;
            let with_time = |(entry, score)| Some((score_time(score)?, entry));
            let lists = found.into_iter();
            Ok(lists
                .map(|entries| entries.into_iter().filter_map(with_time).collect())
                .collect())
        })
    }

    fn complete_until(&self) -> BackendFuture<'_, Timestamp> {
        Box::pin(async { Ok(self.time().await? - CLOCK_DIFFERENCE) })
    }

    fn remove_dead_letter<'a>(
        &'a self,
        endpoint: &'a str,
        partition: u8,
        letter: &'a str,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let key = self.key(keys::dead_letters(partition, endpoint));
            self.run(async |mut redis: Connection| redis.zrem(key, letter).await)
                .await
        })
    }

    fn forget_dead_letters<'a>(
        &'a self,
        endpoint: &'a str,
        until: Timestamp,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let remove = |partition| {
                let key = keys::dead_letters(partition, endpoint);
                let mut command = self.command("ZREMRANGEBYSCORE", key);
                command.arg("-inf").arg(until.as_millis());
                command
            };
            let removed: Vec<u64> = all_or_error(self.query_all_partitions(remove).await?)?;
            drop(removed);
            Ok(())
        })
    }
}

/// The keys that the event of a swap is written to. None if it is no event.
pub(super) fn keys_of_event(swap: &Swap) -> Vec<String> {
    let event = swap.event.as_ref();
    event.map_or_else(Vec::new, |event| {
        written_keys(&Subject::installation(&swap.id), &event.endpoints)
    })
}

/// The event of a swap. Empty if it is no event.
pub(super) fn message_of_event(swap: &Swap) -> &str {
    let event = swap.event.as_ref();
    event.map_or("", |event| &event.message)
}

/// The keys of a message: the list of events, and for each endpoint its queue, due set and count.
fn written_keys(subject: &Subject, endpoints: &[String]) -> Vec<String> {
    let Subject { partition, name } = subject;
    let mut written = vec![keys::events(*partition)];
    written.extend(endpoints.iter().flat_map(|endpoint| {
        [
            keys::delivery_queue(*partition, endpoint, name),
            keys::deliveries_due(*partition, endpoint),
            keys::deliveries_waiting(*partition, endpoint),
        ]
    }));
    written
}
