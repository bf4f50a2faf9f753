//! Lists by time: events and dead letters.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use store::Timestamp;
use store::keys::{self, Content};

use super::HIGHEST;
use crate::backend::embedded::EmbeddedBackend;
use crate::backend::embedded::tables::{HASHES, NEVER, SORTED, set_score, table};
use crate::backend::outbox::{KEPT_FOR, ListEntries};
use crate::outbox::{EventPosition, ListRange};

/// Adds an event after all others.
pub(super) fn add_event(
    store: &WriteTransaction,
    partition: u8,
    event: &str,
    now: Timestamp,
) -> Result<(), redb::Error> {
    let place = (keys::LAST_EVENT, keys::LAST_EVENT_FIELD);
    let last = {
        let hashes = store.open_table(HASHES)?;
        let last = hashes.get(place)?;
        last.and_then(|last| EventPosition::parse(&String::from_utf8_lossy(last.value())))
    };
    let last = match last {
        Some(last) => Some(last),
        None => last_of_all(store)?,
    };
    let next = next_position(last, partition, now);
    let mut hashes = store.open_table(HASHES)?;
    hashes.insert(place, next.to_string().as_bytes())?;
    drop(hashes);
    let key = keys::events(partition);
    set_score(store, &key, event, Some(next.at.as_millis()))?;
    forget_until(store, &key, now - KEPT_FOR)
}

/// Adds an entry to a list whose entries have different times.
pub(super) fn add(
    store: &WriteTransaction,
    key: &str,
    entry: &str,
    now: Timestamp,
) -> Result<(), redb::Error> {
    let last = last_time(store, key)?;
    let at = last.map_or(now, |last| now.max(last + Duration::from_millis(1)));
    set_score(store, key, entry, Some(at.as_millis()))?;
    forget_until(store, key, now - KEPT_FOR)
}

/// Removes the entries of a list up to a time.
pub(super) fn forget_until(
    store: &WriteTransaction,
    key: &str,
    until: Timestamp,
) -> Result<(), redb::Error> {
    let old: Vec<String> = {
        let sorted = store.open_table(SORTED)?;
        let old = sorted.range((key, i64::MIN, "")..=(key, until.as_millis(), HIGHEST))?;
        old.map(|entry| Ok(entry?.0.value().2.to_owned()))
            .collect::<Result<_, redb::Error>>()?
    };
    old.iter()
        .try_for_each(|member| set_score(store, key, member, None))
}

/// Removes the entries of all lists up to a time, also of endpoints that are gone.
pub(super) fn sweep(store: &WriteTransaction, until: Timestamp) -> Result<(), redb::Error> {
    let mut last = String::new();
    loop {
        let key = {
            let sorted = store.open_table(SORTED)?;
            let mut rest = sorted.range((last.as_str(), NEVER, HIGHEST)..)?;
            let first = rest.next().transpose()?;
            first.map(|(entry, _)| entry.value().0.to_owned())
        };
        let Some(key) = key else { return Ok(()) };
        if matches!(keys::content(&key), Content::Events | Content::DeadLetters) {
            forget_until(store, &key, until)?;
        }
        last = key;
    }
}

/// Reads entries of a list.
pub(super) fn read(
    backend: &EmbeddedBackend,
    key: &str,
    range: &ListRange,
) -> Result<ListEntries, redb::Error> {
    let Some(sorted) = table(backend.file.read()?.open_table(SORTED))? else {
        return Ok(Vec::new());
    };
    if range.first > range.last {
        return Ok(Vec::new());
    }
    let (first, last) = (range.first.as_millis(), range.last.as_millis());
    let entries = sorted.range((key, first, "")..=(key, last, HIGHEST))?;
    let entries = entries.map(|entry| {
        let (entry, _) = entry?;
        let (_, at, json) = entry.value();
        Ok((Timestamp::from_millis(at), json.to_owned()))
    });
    match range.is_reverse {
        true => entries.rev().take(range.limit).collect(),
        false => entries.take(range.limit).collect(),
    }
}

/// The place of a new event. It is after all others, also if the clock was set back.
fn next_position(last: Option<EventPosition>, partition: u8, now: Timestamp) -> EventPosition {
    let at = last.map_or(now, |last| now.max(last.at));
    let next = EventPosition { at, partition };
    match last {
        Some(last) if next <= last => EventPosition {
            at: at + Duration::from_millis(1),
            partition,
        },
        Some(_) | None => next,
    }
}

fn last_of_all(store: &WriteTransaction) -> Result<Option<EventPosition>, redb::Error> {
    let mut last = None;
    for partition in 0..=u8::MAX {
        let at = last_time(store, &keys::events(partition))?;
        last = last.max(at.map(|at| EventPosition { at, partition }));
    }
    Ok(last)
}

fn last_time(store: &WriteTransaction, key: &str) -> Result<Option<Timestamp>, redb::Error> {
    let sorted = store.open_table(SORTED)?;
    let mut all = sorted.range((key, i64::MIN, "")..(key, NEVER, HIGHEST))?;
    let last = all.next_back().transpose()?;
    Ok(last.map(|(entry, _)| Timestamp::from_millis(entry.value().1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_the_order_of_their_writes_when_the_clock_is_set_back() {
        let clock = [500, 500, 500, 100, 100, 101, 501, 502, 900, 0];
        let partitions = [7, 9, 3, 3, 200, 200, 0, 0, 1, 1];
        let mut last = None;
        for (now, partition) in clock.into_iter().zip(partitions) {
            let now = Timestamp::from_millis(now);
            let next = next_position(last, partition, now);
            assert!(Some(next) > last, "{next:?} after {last:?}");
            assert!(next.at >= now);
            last = Some(next);
        }
        assert_eq!(last.unwrap().at.as_millis(), 901);
    }
}
