//! Queues: the messages about a subject for an endpoint.

use std::time::Duration;

use redb::{ReadableTable, Table, WriteTransaction};
use store::keys;

use super::{HIGHEST, lists};
use crate::backend::embedded::tables::{HASHES, SCORES, set_score, table};
use crate::backend::embedded::{EmbeddedBackend, now};
use crate::outbox::{Publication, Queued, Settlement, Subject};

type Hashes<'a> = Table<'a, (&'static str, &'static str), &'static [u8]>;

/// Stores a message about a subject.
pub(in crate::backend::embedded) fn publish_in(
    store: &WriteTransaction,
    subject: &Subject,
    publication: &Publication,
) -> Result<(), redb::Error> {
    let Subject { partition, name } = subject;
    if publication.is_event {
        lists::add_event(store, *partition, &publication.message, now())?;
    }
    for endpoint in &publication.endpoints {
        {
            let mut hashes = store.open_table(HASHES)?;
            let queue = keys::delivery_queue(*partition, endpoint, name);
            append(&mut hashes, &queue, &publication.message)?;
            let waiting = keys::deliveries_waiting(*partition, endpoint);
            add_waiting(&mut hashes, &waiting, 1)?;
        }
        let due = keys::deliveries_due(*partition, endpoint);
        let is_scheduled = {
            let scores = store.open_table(SCORES)?;
            scores.get((due.as_str(), name.as_str()))?.is_some()
        };
        if !is_scheduled {
            set_score(store, &due, name, Some(now().as_millis()))?;
        }
    }
    Ok(())
}

/// Records the end of an attempt.
pub(super) fn settle_in(
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
                if let Some(field) = find(&hashes, &queue, message)? {
                    hashes.remove((queue.as_str(), field.as_str()))?;
                    let waiting = keys::deliveries_waiting(*partition, endpoint);
                    add_waiting(&mut hashes, &waiting, -1)?;
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
            .transpose()?
            .is_none();
        if is_empty {
            hashes.remove(tries)?;
        }
        is_empty
    };
    if let Settlement::Dead { letter, .. } = settlement {
        let key = keys::dead_letters(*partition, endpoint);
        lists::add(store, &key, letter, now())?;
    }
    let at = (!is_empty).then(|| (now() + pause).as_millis());
    set_score(store, &keys::deliveries_due(*partition, endpoint), name, at)
}

/// Reads the first messages of a queue.
pub(super) fn read(
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

/// The number in a stored text. Zero if it is none.
pub(super) fn number(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The field of a message in its queue.
fn find(hashes: &Hashes<'_>, queue: &str, message: &str) -> Result<Option<String>, redb::Error> {
    for entry in hashes.range((queue, "")..(queue, HIGHEST))? {
        let (key, value) = entry?;
        if value.value() == message.as_bytes() {
            return Ok(Some(key.value().1.to_owned()));
        }
    }
    Ok(None)
}

fn append(hashes: &mut Hashes<'_>, queue: &str, message: &str) -> Result<(), redb::Error> {
    let last = {
        let mut all = hashes.range((queue, "")..(queue, HIGHEST))?;
        let last = all.next_back().transpose()?;
        last.and_then(|(field, _)| u64::from_str_radix(field.value().1, 16).ok())
    };
    let field = format!("{:016x}", last.map_or(0, |last| last + 1));
    hashes.insert((queue, field.as_str()), message.as_bytes())?;
    Ok(())
}

fn add_waiting(hashes: &mut Hashes<'_>, key: &str, more: i64) -> Result<(), redb::Error> {
    let place = (key, keys::WAITING_FIELD);
    let count = hashes
        .get(place)?
        .map_or(0, |count| number(count.value()))
        .saturating_add_signed(more);
    match count {
        0 => drop(hashes.remove(place)?),
        _ => drop(hashes.insert(place, count.to_string().as_bytes())?),
    }
    Ok(())
}
