//! The outbox in the file. A queue is a hash whose fields are in the order of the messages.

pub(super) mod lists;
mod queues;

use std::time::Duration;

use redb::ReadableTable;
use store::{Timestamp, keys};

pub(super) use queues::publish_in;

use super::tables::{HASHES, NEVER, SORTED, set_score, table};
use super::{EmbeddedBackend, now, unavailable};
use crate::backend::outbox::{KEPT_FOR, ListEntries, OutboxBackend};
use crate::backend::{BackendFuture, DueEntries, DuePoll};
use crate::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};

/// Above every field name.
const HIGHEST: &str = "\u{10ffff}";

impl OutboxBackend for EmbeddedBackend {
    fn publish<'a>(
        &'a self,
        subject: &'a Subject,
        publication: Publication,
    ) -> BackendFuture<'a, ()> {
        let subject = subject.clone();
        Box::pin(self.write(move |store| publish_in(store, &subject, &publication)))
    }

    fn poll_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        partitions: &'a [u8],
    ) -> BackendFuture<'a, DuePoll> {
        Box::pin(async move {
            self.poll_schedule(partitions, |partition| {
                keys::deliveries_due(partition, endpoint)
            })
            .map_err(unavailable)
        })
    }

    fn claim_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<Subject>> {
        let key = keys::deliveries_due(due.partition, endpoint);
        Box::pin(async move {
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
        Box::pin(async move { queues::read(self, endpoint, subject, limit).map_err(unavailable) })
    }

    fn settle<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        settlement: &'a Settlement,
        pause: Duration,
    ) -> BackendFuture<'a, ()> {
        let (endpoint, subject) = (endpoint.to_owned(), subject.clone());
        let settlement = settlement.clone();
        Box::pin(
            self.write(move |store| {
                queues::settle_in(store, &endpoint, &subject, &settlement, pause)
            }),
        )
    }

    fn hasten_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        beyond: Duration,
    ) -> BackendFuture<'a, ()> {
        let endpoint = endpoint.to_owned();
        Box::pin(self.write(move |store| {
            let now = now();
            let first = (now + beyond).as_millis().saturating_add(1);
            for partition in 0..=u8::MAX {
                let key = keys::deliveries_due(partition, &endpoint);
                let late: Vec<String> = {
                    let sorted = store.open_table(SORTED)?;
                    let late = sorted.range((key.as_str(), first, "")..(&key, NEVER, HIGHEST))?;
                    late.map(|entry| Ok(entry?.0.value().2.to_owned()))
                        .collect::<Result<_, redb::Error>>()?
                };
                for name in &late {
                    set_score(store, &key, name, Some(now.as_millis()))?;
                }
            }
            Ok(())
        }))
    }

    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async move { count(self, endpoint).map_err(unavailable) })
    }

    fn read_list<'a>(
        &'a self,
        list: &'a List,
        ranges: &'a [ListRange],
    ) -> BackendFuture<'a, Vec<ListEntries>> {
        Box::pin(async move {
            let all = ranges.iter();
            all.map(|range| lists::read(self, &list.key(range.partition), range))
                .collect::<Result<_, _>>()
                .map_err(unavailable)
        })
    }

    /// Every event comes after all earlier ones, whatever the clock says.
    fn complete_until(&self) -> BackendFuture<'_, Timestamp> {
        Box::pin(async { Ok(Timestamp::from_millis(NEVER)) })
    }

    fn remove_dead_letter<'a>(
        &'a self,
        endpoint: &'a str,
        partition: u8,
        letter: &'a str,
    ) -> BackendFuture<'a, ()> {
        let key = keys::dead_letters(partition, endpoint);
        let letter = letter.to_owned();
        Box::pin(self.write(move |store| set_score(store, &key, &letter, None)))
    }

    fn forget_dead_letters<'a>(
        &'a self,
        endpoint: &'a str,
        until: Timestamp,
    ) -> BackendFuture<'a, ()> {
        let endpoint = endpoint.to_owned();
        Box::pin(self.write(move |store| {
            (0..=u8::MAX).try_for_each(|partition| {
                lists::forget_until(store, &keys::dead_letters(partition, &endpoint), until)
            })
        }))
    }

    fn sweep_outbox(&self) -> BackendFuture<'_, ()> {
        Box::pin(self.write(|store| lists::sweep(store, now() - KEPT_FOR)))
    }
}

fn count(backend: &EmbeddedBackend, endpoint: &str) -> Result<QueueCount, redb::Error> {
    let mut count = QueueCount::default();
    let file = backend.file.read()?;
    let (Some(hashes), Some(sorted)) = (
        table(file.open_table(HASHES))?,
        table(file.open_table(SORTED))?,
    ) else {
        return Ok(count);
    };
    for partition in 0..=u8::MAX {
        let members = |key: String| -> Result<u64, redb::Error> {
            let all =
                sorted.range((key.as_str(), i64::MIN, "")..=(key.as_str(), NEVER, HIGHEST))?;
            all.map(|entry| Ok(entry.map(|_| 1)?)).sum()
        };
        count.queues += members(keys::deliveries_due(partition, endpoint))?;
        count.dead_letters += members(keys::dead_letters(partition, endpoint))?;
        let tries = keys::delivery_attempts(partition, endpoint);
        let tries = hashes.range((tries.as_str(), "")..(tries.as_str(), HIGHEST))?;
        count.failing += tries
            .map(|entry| Ok(entry.map(|_| 1)?))
            .sum::<Result<u64, redb::Error>>()?;
        let waiting = keys::deliveries_waiting(partition, endpoint);
        let waiting = hashes.get((waiting.as_str(), keys::WAITING_FIELD))?;
        count.messages += waiting.map_or(0, |waiting| queues::number(waiting.value()));
    }
    Ok(count)
}
