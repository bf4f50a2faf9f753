//! The outbox in the file. A queue is a hash whose fields are in the order of the messages.

use std::ops::RangeInclusive;
use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use store::{Timestamp, keys};

use super::tables::{HASHES, NEVER, SCORES, SORTED, set_score, table};
use super::{EmbeddedBackend, claim_in, now, unavailable};
use crate::backend::outbox::{KEPT_FOR, OutboxBackend, first_after};
use crate::backend::{BackendFuture, DueEntries, DuePoll, POLL_DEPTH};
use crate::outbox::{
    EventPosition, Publication, QueueCount, Queued, Settlement, StoredEvent, Subject,
};

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

    fn poll_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, DuePoll> {
        Box::pin(async move {
            let mut scheduled = Vec::new();
            for partition in 0..=u8::MAX {
                let key = keys::deliveries_due(partition, endpoint);
                let heads = self.sorted(&key, POLL_DEPTH).map_err(unavailable)?;
                let times = heads.iter().map(|(at, _)| Timestamp::from_millis(*at));
                scheduled.extend(times.map(|at| (partition, at)));
            }
            Ok(DuePoll::of(scheduled, now()))
        })
    }

    fn claim_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<Subject>> {
        let partition = due.partition;
        let key = keys::deliveries_due(partition, endpoint);
        Box::pin(async move {
            let names = self.write(move |store| claim_in(store, &key, due, claim));
            let subjects = names.await?.into_iter();
            Ok(subjects.map(|name| Subject { partition, name }).collect())
        })
    }

    fn queued<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        limit: usize,
    ) -> BackendFuture<'a, Queued> {
        Box::pin(async move { read_queue(self, endpoint, subject, limit).map_err(unavailable) })
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
        Box::pin(self.write(move |store| settle_in(store, &endpoint, &subject, &settlement, pause)))
    }

    fn hasten_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, ()> {
        let endpoint = endpoint.to_owned();
        Box::pin(self.write(move |store| {
            for partition in 0..=u8::MAX {
                let key = keys::deliveries_due(partition, &endpoint);
                let late: Vec<String> = {
                    let sorted = store.open_table(SORTED)?;
                    let first = now().as_millis() + 1;
                    let late = sorted.range((key.as_str(), first, "")..(&key, NEVER, HIGHEST))?;
                    late.map(|entry| Ok(entry?.0.value().2.to_owned()))
                        .collect::<Result<_, redb::Error>>()?
                };
                for name in &late {
                    set_score(store, &key, name, Some(now().as_millis()))?;
                }
            }
            Ok(())
        }))
    }

    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async move {
            let mut count = QueueCount::default();
            for partition in 0..=u8::MAX {
                let due = self.sorted(&keys::deliveries_due(partition, endpoint), usize::MAX);
                let tries = self.hash(&keys::delivery_attempts(partition, endpoint));
                count.queues += due.map_err(unavailable)?.len() as u64;
                count.failing += tries.map_err(unavailable)?.iter().count() as u64;
            }
            Ok(count)
        })
    }

    fn events(
        &self,
        after: EventPosition,
        until: Timestamp,
        limit: usize,
    ) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move {
            let mut events = Vec::new();
            for partition in 0..=u8::MAX {
                let first = first_after(after, partition);
                let times = first.as_millis()..=until.as_millis();
                let found = events_in(self, partition, times, |all| all.take(limit).collect());
                events.extend(found.map_err(unavailable)?);
            }
            events.sort_unstable_by_key(|event| event.position);
            events.truncate(limit);
            Ok(events)
        })
    }

    fn newest_events(&self, limit: usize) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move {
            let mut events = Vec::new();
            for partition in 0..=u8::MAX {
                let newest = |all: &mut Events<'_>| all.rev().take(limit).collect();
                let found = events_in(self, partition, i64::MIN..=NEVER, newest);
                events.extend(found.map_err(unavailable)?);
            }
            events.sort_unstable_by_key(|event| std::cmp::Reverse(event.position));
            events.truncate(limit);
            Ok(events)
        })
    }

    fn dead_letters(&self, limit: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async move {
            let mut letters = Vec::new();
            for partition in 0..=u8::MAX {
                let all = self.sorted(&keys::dead_letters(partition), usize::MAX);
                letters.extend(all.map_err(unavailable)?);
            }
            letters.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
            letters.truncate(limit);
            Ok(letters.into_iter().map(|(_, letter)| letter).collect())
        })
    }
}

/// Stores a message about a subject.
pub(super) fn publish_in(
    store: &WriteTransaction,
    subject: &Subject,
    publication: &Publication,
) -> Result<(), redb::Error> {
    let Subject { partition, name } = subject;
    let now = now().as_millis();
    if publication.is_event {
        let key = keys::events(*partition);
        // One event in a millisecond, so that a position in the list is unique.
        let at = now.max(last_score(store, &key)?.map_or(now, |last| last + 1));
        set_score(store, &key, &publication.message, Some(at))?;
        forget_old(store, &key, now)?;
    }
    for endpoint in &publication.endpoints {
        append(
            store,
            &keys::delivery_queue(*partition, endpoint, name),
            &publication.message,
        )?;
        let due = keys::deliveries_due(*partition, endpoint);
        let is_scheduled = {
            let scores = store.open_table(SCORES)?;
            scores.get((due.as_str(), name.as_str()))?.is_some()
        };
        if !is_scheduled {
            set_score(store, &due, name, Some(now))?;
        }
    }
    Ok(())
}

fn settle_in(
    store: &WriteTransaction,
    endpoint: &str,
    subject: &Subject,
    settlement: &Settlement,
    pause: Duration,
) -> Result<(), redb::Error> {
    let Subject { partition, name } = subject;
    let queue = keys::delivery_queue(*partition, endpoint, name);
    let tries = keys::delivery_attempts(*partition, endpoint);
    let tries = (tries.as_str(), name.as_str());
    let is_empty = {
        let mut hashes = store.open_table(HASHES)?;
        match settlement {
            Settlement::Delivered(message) | Settlement::Dead { message, .. } => {
                let found = {
                    let mut all = hashes.range((queue.as_str(), "")..(&queue, HIGHEST))?;
                    all.find_map(|entry| match entry {
                        Ok((key, value)) if value.value() == message.as_bytes() => {
                            Some(key.value().1.to_owned())
                        }
                        Ok(_) | Err(_) => None,
                    })
                };
                if let Some(field) = found {
                    hashes.remove((queue.as_str(), field.as_str()))?;
                }
                hashes.remove(tries)?;
            }
            Settlement::Failed { attempts } => {
                hashes.insert(tries, attempts.as_bytes())?;
            }
            Settlement::Unsent => {}
        }
        let is_empty = hashes
            .range((queue.as_str(), "")..(&queue, HIGHEST))?
            .next()
            .is_none();
        if is_empty {
            hashes.remove(tries)?;
        }
        is_empty
    };
    if let Settlement::Dead { letter, .. } = settlement {
        let key = keys::dead_letters(*partition);
        set_score(store, &key, letter, Some(now().as_millis()))?;
        forget_old(store, &key, now().as_millis())?;
    }
    let at = (!is_empty).then(|| (now() + pause).as_millis());
    set_score(store, &keys::deliveries_due(*partition, endpoint), name, at)
}

fn append(store: &WriteTransaction, queue: &str, message: &str) -> Result<(), redb::Error> {
    let mut hashes = store.open_table(HASHES)?;
    let last = {
        let mut all = hashes.range((queue, "")..(queue, HIGHEST))?;
        let last = all.next_back().transpose()?;
        last.and_then(|(field, _)| u64::from_str_radix(field.value().1, 16).ok())
    };
    let field = format!("{:016x}", last.map_or(0, |last| last + 1));
    hashes.insert((queue, field.as_str()), message.as_bytes())?;
    Ok(())
}

fn last_score(store: &WriteTransaction, key: &str) -> Result<Option<i64>, redb::Error> {
    let sorted = store.open_table(SORTED)?;
    let mut all = sorted.range((key, i64::MIN, "")..(key, NEVER, HIGHEST))?;
    let last = all.next_back().transpose()?;
    Ok(last.map(|(entry, _)| entry.value().1))
}

fn forget_old(store: &WriteTransaction, key: &str, now: i64) -> Result<(), redb::Error> {
    let kept = i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    let old: Vec<String> = {
        let sorted = store.open_table(SORTED)?;
        let old = sorted.range((key, i64::MIN, "")..(key, now - kept, ""))?;
        old.map(|entry| Ok(entry?.0.value().2.to_owned()))
            .collect::<Result<_, redb::Error>>()?
    };
    old.iter()
        .try_for_each(|member| set_score(store, key, member, None))
}

fn read_queue(
    backend: &EmbeddedBackend,
    endpoint: &str,
    subject: &Subject,
    limit: usize,
) -> Result<Queued, redb::Error> {
    let Subject { partition, name } = subject;
    let queue = keys::delivery_queue(*partition, endpoint, name);
    let tries = keys::delivery_attempts(*partition, endpoint);
    let Some(hashes) = table(backend.file.read()?.open_table(HASHES))? else {
        return Ok(Queued::default());
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let messages = hashes
        .range((queue.as_str(), "")..(&queue, HIGHEST))?
        .take(limit)
        .map(|entry| Ok(text(entry?.1.value())))
        .collect::<Result<_, redb::Error>>()?;
    let attempts = hashes.get((tries.as_str(), name.as_str()))?;
    let attempts = attempts.map(|attempts| text(attempts.value()));
    Ok(Queued { messages, attempts })
}

type Events<'a> = dyn DoubleEndedIterator<Item = Result<StoredEvent, redb::Error>> + 'a;

/// The events of a partition that were written in these times, of which `select` takes some.
fn events_in(
    backend: &EmbeddedBackend,
    partition: u8,
    times: RangeInclusive<i64>,
    select: impl FnOnce(&mut Events<'_>) -> Result<Vec<StoredEvent>, redb::Error>,
) -> Result<Vec<StoredEvent>, redb::Error> {
    let key = keys::events(partition);
    let Some(sorted) = table(backend.file.read()?.open_table(SORTED))? else {
        return Ok(Vec::new());
    };
    if times.is_empty() {
        return Ok(Vec::new());
    }
    let (first, last) = times.into_inner();
    let range = sorted.range((key.as_str(), first, "")..=(key.as_str(), last, HIGHEST))?;
    let mut events = range.map(|entry| {
        let (entry, _) = entry?;
        let (_, at, json) = entry.value();
        let at = Timestamp::from_millis(at);
        Ok(StoredEvent {
            position: EventPosition { at, partition },
            json: json.to_owned(),
        })
    });
    select(&mut events)
}
