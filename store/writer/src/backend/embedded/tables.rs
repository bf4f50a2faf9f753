//! The tables of the file, and operations on them.

use redb::{ReadOnlyTable, ReadableTable, TableDefinition, WriteTransaction};
use store::record::Fields;
use store::{Timestamp, keys};

use super::outbox::publish_in;
use crate::backend::{REVISION, Swap};
use crate::outbox::Subject;

/// `(key, field) → value`.
pub(super) const HASHES: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("hashes");
/// `(key, score, member)`: a sorted set, ordered by score.
pub(super) const SORTED: TableDefinition<(&str, i64, &str), ()> = TableDefinition::new("sorted");
/// `(key, member) → score`: finds the score of a member of a sorted set.
pub(super) const SCORES: TableDefinition<(&str, &str), i64> = TableDefinition::new("scores");
/// `key → (value, expiry in ms)`.
pub(super) const STRINGS: TableDefinition<&str, (&str, i64)> = TableDefinition::new("strings");

/// The score or expiry of something that never expires.
pub(crate) const NEVER: i64 = i64::MAX;

pub(super) fn read_hash(
    hashes: &ReadOnlyTable<(&str, &str), &[u8]>,
    key: &str,
) -> Result<Fields, redb::Error> {
    // Every field name is below the highest character.
    let fields = hashes.range((key, "")..(key, "\u{10ffff}"))?;
    fields
        .map(|field| {
            let (name, value) = field?;
            Ok((name.value().1.to_owned(), value.value().to_vec()))
        })
        .collect()
}

/// Applies a write. False if the record has another revision than expected.
pub(super) fn swap_in(store: &WriteTransaction, swap: &Swap) -> Result<bool, redb::Error> {
    let (access, refresh) = (keys::access(&swap.id), keys::refresh(&swap.id));
    {
        let mut hashes = store.open_table(HASHES)?;
        let revision = hashes.get((refresh.as_str(), REVISION))?;
        let revision = revision.map(|revision| revision.value().to_vec());
        if revision.unwrap_or_default() != swap.expected {
            return Ok(false);
        }
        for (key, fields) in [(&access, &swap.access), (&refresh, &swap.refresh)] {
            for (name, value) in fields.iter() {
                hashes.insert((key.as_str(), name), value)?;
            }
        }
        for name in &swap.removed {
            hashes.remove((refresh.as_str(), name.as_str()))?;
        }
        for family in &swap.families {
            let family = keys::family(swap.id.partition(), family);
            hashes.insert((family.as_str(), swap.id.as_str()), &[][..])?;
        }
    }
    if let Some(event) = &swap.event {
        publish_in(store, &Subject::installation(&swap.id), event)?;
    }
    if swap.keeps_schedule {
        return Ok(true);
    }
    let partition = swap.id.partition();
    let (wake, expiry) = (
        swap.wake_at.map(Timestamp::as_millis),
        swap.expires_at.map_or(NEVER, Timestamp::as_millis),
    );
    let (on, off) = (swap.schedule, swap.schedule.other());
    set_score(
        store,
        &off.key(partition, &swap.app),
        swap.id.as_str(),
        None,
    )?;
    set_score(store, &on.key(partition, &swap.app), swap.id.as_str(), wake)?;
    set_score(
        store,
        &keys::expiry(partition),
        swap.id.as_str(),
        Some(expiry),
    )?;
    Ok(true)
}

/// Sets the score of a member; `None` removes the member.
pub(super) fn set_score(
    store: &WriteTransaction,
    key: &str,
    member: &str,
    score: Option<i64>,
) -> Result<(), redb::Error> {
    let mut scores = store.open_table(SCORES)?;
    let mut sorted = store.open_table(SORTED)?;
    if let Some(earlier) = scores.remove((key, member))? {
        sorted.remove((key, earlier.value(), member))?;
    }
    if let Some(score) = score {
        scores.insert((key, member), score)?;
        sorted.insert((key, score, member), ())?;
    }
    Ok(())
}

/// The table, or `None` if it was never written.
pub(super) fn table<T>(opened: Result<T, redb::TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
