//! The outbox in Redis: a list for each queue, and sorted sets for what is due, for events and for dead letters.

use std::time::Duration;

use redis::Cmd;
use store::connection::Connection;
use store::{Timestamp, keys};

use super::RedisBackend;
use super::reply::{FirstEntries, all_or_error, due_poll, first_entries, millis, score_time};
use crate::backend::outbox::{KEPT_FOR, OutboxBackend, first_after};
use crate::backend::{BackendFuture, DueEntries, DuePoll, POLL_DEPTH, Swap};
use crate::outbox::{
    EventPosition, Publication, QueueCount, Queued, Settlement, StoredEvent, Subject,
};

impl OutboxBackend for RedisBackend {
    fn publish<'a>(
        &'a self,
        subject: &'a Subject,
        publication: Publication,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let mut written = vec![keys::events(subject.partition)];
            written.extend(queues(subject, &publication.endpoints));
            let mut call = self.publish.call(written);
            call.arg(&subject.name).arg(&publication.message);
            call.arg(u8::from(publication.is_event))
                .arg(millis(KEPT_FOR));
            self.run(|redis| call.run(redis)).await
        })
    }

    fn poll_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, DuePoll> {
        Box::pin(async move {
            let now = self.time().await?;
            let next =
                |partition| first_entries(&keys::deliveries_due(partition, endpoint), POLL_DEPTH);
            due_poll(now, self.query_all_partitions(next).await?)
        })
    }

    fn claim_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let partition = due.partition;
            let key = keys::deliveries_due(partition, endpoint);
            let mut call = self.claim.call([key]);
            call.arg(due.limit)
                .arg(due.by.as_millis())
                .arg(millis(claim));
            let names: Vec<String> = self.run(|redis| call.run(redis)).await?;
            let subjects = names.into_iter().map(|name| Subject { partition, name });
            Ok(subjects.collect())
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
            both.lrange(keys::delivery_queue(*partition, endpoint, name), 0, last);
            both.hget(keys::delivery_attempts(*partition, endpoint), name);
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
            let mut call = self.settle.call([
                keys::delivery_queue(*partition, endpoint, name),
                keys::deliveries_due(*partition, endpoint),
                keys::delivery_attempts(*partition, endpoint),
                keys::dead_letters(*partition),
            ]);
            call.arg(name).arg(message).arg(attempts);
            call.arg(millis(pause)).arg(letter).arg(millis(KEPT_FOR));
            self.run(|redis| call.run(redis)).await
        })
    }

    fn hasten_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let now = self.time().await?.as_millis();
            for partition in 0..=u8::MAX {
                let key = keys::deliveries_due(partition, endpoint);
                let late = redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(format!("({now}"))
                    .arg("+inf")
                    .arg("BYSCORE")
                    .to_owned();
                let names: Vec<String> = self
                    .run(async |mut redis: Connection| late.query_async(&mut redis).await)
                    .await?;
                if names.is_empty() {
                    continue;
                }
                let mut sooner = redis::pipe();
                for name in names {
                    let command = sooner.cmd("ZADD").arg(&key).arg("XX").arg("LT");
                    command.arg(now).arg(name).ignore();
                }
                let (): () = self
                    .run(async |mut redis: Connection| sooner.query_async(&mut redis).await)
                    .await?;
            }
            Ok(())
        })
    }

    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async move {
            let queues = |partition| command("ZCARD", keys::deliveries_due(partition, endpoint));
            let failing = |partition| command("HLEN", keys::delivery_attempts(partition, endpoint));
            let queues: Vec<u64> = all_or_error(self.query_all_partitions(queues).await?)?;
            let failing: Vec<u64> = all_or_error(self.query_all_partitions(failing).await?)?;
            Ok(QueueCount {
                queues: queues.iter().sum(),
                failing: failing.iter().sum(),
            })
        })
    }

    fn events(
        &self,
        after: EventPosition,
        until: Timestamp,
        limit: usize,
    ) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move {
            let ask = |partition| {
                let mut command = command("ZRANGE", keys::events(partition));
                let first = first_after(after, partition).as_millis();
                command.arg(first).arg(until.as_millis()).arg("BYSCORE");
                command.arg("LIMIT").arg(0).arg(limit).arg("WITHSCORES");
                command
            };
            let found: Vec<FirstEntries> = all_or_error(self.query_all_partitions(ask).await?)?;
            let mut events = stored_events(found);
            events.sort_unstable_by_key(|event| event.position);
            events.truncate(limit);
            Ok(events)
        })
    }

    fn newest_events(&self, limit: usize) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move {
            let ask = |partition| {
                let mut command = command("ZRANGE", keys::events(partition));
                command.arg(0).arg(limit.saturating_sub(1)).arg("REV");
                command.arg("WITHSCORES");
                command
            };
            let found: Vec<FirstEntries> = all_or_error(self.query_all_partitions(ask).await?)?;
            let mut events = stored_events(found);
            events.sort_unstable_by_key(|event| std::cmp::Reverse(event.position));
            events.truncate(limit);
            Ok(events)
        })
    }

    fn dead_letters(&self, limit: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async move {
            let ask = |partition| {
                let mut command = command("ZRANGE", keys::dead_letters(partition));
                command.arg(0).arg(limit.saturating_sub(1)).arg("REV");
                command.arg("WITHSCORES");
                command
            };
            let found: Vec<FirstEntries> = all_or_error(self.query_all_partitions(ask).await?)?;
            let mut letters = found.concat();
            letters.sort_unstable_by(|(_, one), (_, other)| other.total_cmp(one));
            letters.truncate(limit);
            Ok(letters.into_iter().map(|(letter, _)| letter).collect())
        })
    }
}

/// The keys that the event of a swap is written to. None if it is no event.
pub(super) fn keys_of_event(swap: &Swap) -> Vec<String> {
    let Some(event) = &swap.event else {
        return Vec::new();
    };
    let subject = Subject::installation(&swap.id);
    let mut written = vec![keys::events(subject.partition)];
    written.extend(queues(&subject, &event.endpoints));
    written
}

/// The event of a swap. Empty if it is no event.
pub(super) fn message_of_event(swap: &Swap) -> &str {
    let event = swap.event.as_ref();
    event.map_or("", |event| &event.message)
}

/// For each endpoint its queue and its due set.
fn queues(subject: &Subject, endpoints: &[String]) -> Vec<String> {
    let Subject { partition, name } = subject;
    let queues = endpoints.iter().flat_map(|endpoint| {
        [
            keys::delivery_queue(*partition, endpoint, name),
            keys::deliveries_due(*partition, endpoint),
        ]
    });
    queues.collect()
}

fn command(name: &str, key: String) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

fn stored_events(found: Vec<FirstEntries>) -> Vec<StoredEvent> {
    let all = (0..=u8::MAX).zip(found);
    let all = all.flat_map(|(partition, events)| {
        events.into_iter().filter_map(move |(json, score)| {
            let at = score_time(score)?;
            let position = EventPosition { at, partition };
            Some(StoredEvent { position, json })
        })
    });
    all.collect()
}
