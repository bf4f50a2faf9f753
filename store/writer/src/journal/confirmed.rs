//! Responses that the store has confirmed, retained in case the store loses them.
//!
//! There is one for each installation, and an index by the time of the confirmation. Both are in the file, so
//! the broker's memory does not grow with the number of installations.

use std::fs;
use std::path::Path;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};
use store::{InstallationId, Timestamp};
use tracing::{info, warn};

use super::entry::Entry;

/// `installation → (confirmed at, intent, entry)`.
const CONFIRMED: TableDefinition<&str, (i64, &str, &[u8])> = TableDefinition::new("kept");
/// `(confirmed at, installation) → bytes`: finds the oldest and the newest.
const BY_TIME: TableDefinition<(i64, &str), u64> = TableDefinition::new("kept-by-time");
/// The sum of all bytes in `BY_TIME`.
const BYTES: TableDefinition<(), u64> = TableDefinition::new("kept-bytes");

/// The most entries that one write drops. Other writes wait for the disk meanwhile.
const PRUNE_BATCH: usize = 512;
/// The most entries that are dropped when one is added.
const PRUNE_PER_WRITE: usize = 8;
/// A smaller file is not worth compacting.
const MIN_COMPACT_BYTES: u64 = 64 * 1024 * 1024;

/// A response, and when the store confirmed it.
#[derive(Debug, Clone)]
pub struct ConfirmedEntry {
    /// The attempt with its response.
    pub entry: Entry,
    /// When the store confirmed the commit, in the journal's time.
    pub confirmed_at: Timestamp,
}

impl ConfirmedEntry {
    /// The start of the next page.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.confirmed_at,
            installation: self.entry.installation.clone(),
        }
    }
}

/// A position among the confirmed responses.
#[derive(Debug, Clone)]
pub struct Cursor {
    at: Timestamp,
    installation: InstallationId,
}

/// The fate of a confirmed response in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its tokens became the current ones.
    Current,
    /// Its tokens are an alternate, because the chain had moved on.
    Alternate,
}

/// Whether a response replaces the retained one.
fn replaces(entry: &Entry, standing: Standing, known: &Entry) -> bool {
    match standing {
        Standing::Current => entry.spent_generation >= known.spent_generation,
        Standing::Alternate => entry.spent_generation > known.spent_generation,
    }
}

/// Adds a response, and drops the one that it replaces and some above the limit.
pub(super) fn insert(
    file: &WriteTransaction,
    entry: &Entry,
    standing: Standing,
    at: Timestamp,
    limit: u64,
) -> Result<(), redb::Error> {
    let mut tables = Tables::open(file)?;
    let known = tables.confirmed.get(entry.installation.as_str())?;
    let known = known.and_then(|known| {
        let (_, intent, value) = known.value();
        Entry::decode(intent, value)
    });
    if known.is_some_and(|known| !replaces(entry, standing, &known)) {
        return Ok(());
    }
    tables.remove(entry.installation.as_str())?;
    tables.insert(entry, at)?;
    tables.drop_oldest(PRUNE_PER_WRITE, |_, bytes| bytes > limit)?;
    tables.close()
}

/// Replaces a response by the same one with another seal, unless a later one has taken its place.
pub(super) fn replace(file: &WriteTransaction, entry: &Entry) -> Result<(), redb::Error> {
    let mut tables = Tables::open(file)?;
    let known = tables.confirmed.get(entry.installation.as_str())?;
    let confirmed_at = known.and_then(|known| {
        let (at, intent, _) = known.value();
        (intent == entry.intent.as_str()).then_some(Timestamp::from_millis(at))
    });
    if let Some(at) = confirmed_at {
        tables.remove(entry.installation.as_str())?;
        tables.insert(entry, at)?;
    }
    tables.close()
}

/// Drops some responses older than `oldest` or above the limit. Whether there may be more.
pub(super) fn prune(
    file: &WriteTransaction,
    oldest: Timestamp,
    limit: u64,
) -> Result<bool, redb::Error> {
    let mut tables = Tables::open(file)?;
    let is_over = |at: i64, bytes| at < oldest.as_millis() || bytes > limit;
    let dropped = tables.drop_oldest(PRUNE_BATCH, is_over)?;
    tables.close()?;
    Ok(dropped == PRUNE_BATCH)
}

struct Tables<'t> {
    confirmed: Table<'t, &'static str, (i64, &'static str, &'static [u8])>,
    by_time: Table<'t, (i64, &'static str), u64>,
    sum: Table<'t, (), u64>,
    bytes: u64,
}

impl<'t> Tables<'t> {
    fn open(file: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let sum = file.open_table(BYTES)?;
        let bytes = sum.get(())?.map_or(0, |bytes| bytes.value());
        Ok(Self {
            confirmed: file.open_table(CONFIRMED)?,
            by_time: file.open_table(BY_TIME)?,
            sum,
            bytes,
        })
    }

    fn insert(&mut self, entry: &Entry, at: Timestamp) -> Result<(), redb::Error> {
        let (id, value) = (entry.installation.as_str(), entry.encode());
        let size = footprint(value.len());
        let row = (at.as_millis(), entry.intent.as_str(), value.as_slice());
        self.confirmed.insert(id, row)?;
        self.by_time.insert((at.as_millis(), id), size)?;
        self.bytes += size;
        Ok(())
    }

    fn remove(&mut self, installation: &str) -> Result<(), redb::Error> {
        let removed = self.confirmed.remove(installation)?;
        let at = removed.map(|removed| removed.value().0);
        if let Some(at) = at
            && let Some(size) = self.by_time.remove((at, installation))?
        {
            self.bytes = self.bytes.saturating_sub(size.value());
        }
        Ok(())
    }

    /// Drops the oldest entries while `is_expired(date, total bytes)`, up to `limit`. Returns their number.
    fn drop_oldest(
        &mut self,
        limit: usize,
        is_expired: impl Fn(i64, u64) -> bool,
    ) -> Result<usize, redb::Error> {
        for dropped in 0..limit {
            let oldest = self.by_time.first()?.map(|(key, _)| {
                let (at, installation) = key.value();
                (at, installation.to_owned())
            });
            match oldest {
                Some((at, installation)) if is_expired(at, self.bytes) => {
                    self.remove(&installation)?;
                }
                Some(_) | None => return Ok(dropped),
            }
        }
        Ok(limit)
    }

    fn close(mut self) -> Result<(), redb::Error> {
        self.sum.insert((), self.bytes)?;
        Ok(())
    }
}

/// The bytes of the file that an entry is charged with: twice its size. Pages of a B-tree with random writes
/// are two thirds full, and a page is written anew before the old one is free. Measured: 436 MB in 220,000
/// entries make a file of 1.14 GB, which does not grow when all entries are replaced. `redb` doubles a
/// growing file, so the file may exceed the limit.
fn footprint(value: usize) -> u64 {
    const KEYS: u64 = 200;
    2 * (value as u64 + KEYS)
}

/// The table, or `None` if it was never written.
fn table<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// When the newest response was confirmed; `None` if there is none.
pub(super) fn newest(file: &ReadTransaction) -> Result<Option<Timestamp>, redb::Error> {
    let Some(by_time) = table(file.open_table(BY_TIME))? else {
        return Ok(None);
    };
    let last = by_time.last()?;
    Ok(last.map(|(key, _)| Timestamp::from_millis(key.value().0)))
}

pub(super) fn get(
    file: &ReadTransaction,
    id: &InstallationId,
) -> Result<Option<ConfirmedEntry>, redb::Error> {
    let Some(confirmed) = table(file.open_table(CONFIRMED))? else {
        return Ok(None);
    };
    let row = confirmed.get(id.as_str())?;
    Ok(row.and_then(|row| decode(id.as_str(), row.value())))
}

pub(super) fn page(
    file: &ReadTransaction,
    before: Option<&Cursor>,
    limit: usize,
) -> Result<Vec<ConfirmedEntry>, redb::Error> {
    let (Some(confirmed), Some(by_time)) = (
        table(file.open_table(CONFIRMED))?,
        table(file.open_table(BY_TIME))?,
    ) else {
        return Ok(Vec::new());
    };
    let end = before.map_or((i64::MAX, ""), |cursor| {
        (cursor.at.as_millis(), cursor.installation.as_str())
    });
    let mut page = Vec::new();
    for key in by_time.range((i64::MIN, "")..end)?.rev() {
        if page.len() == limit {
            break;
        }
        let (key, _) = key?;
        let (_, installation) = key.value();
        let row = confirmed.get(installation)?;
        page.extend(row.and_then(|row| decode(installation, row.value())));
    }
    Ok(page)
}

fn decode(installation: &str, (at, intent, value): (i64, &str, &[u8])) -> Option<ConfirmedEntry> {
    let Some(entry) = Entry::decode(intent, value) else {
        warn!(installation, "a confirmed response cannot be read");
        return None;
    };
    let confirmed_at = Timestamp::from_millis(at);
    Some(ConfirmedEntry {
        entry,
        confirmed_at,
    })
}

/// Returns unused space of the file to the disk. `redb` reuses freed pages, but it shrinks a file only on
/// request while no other process has it open. This is therefore done at the start.
///
/// Errors are ignored here, because opening the file reports them.
pub(super) fn compact(path: &Path) {
    let length = || fs::metadata(path).map_or(0, |file| file.len());
    let before = length();
    if before < MIN_COMPACT_BYTES {
        return;
    }
    let Ok(mut file) = Database::open(path) else {
        return;
    };
    let in_use = file.begin_read().ok().and_then(|file| {
        let sum = table(file.open_table(BYTES)).ok()??;
        Some(sum.get(()).ok()??.value())
    });
    // Compaction takes a second for each 15 MB in use, and the process waits for it.
    if before / 8 < in_use.unwrap_or(0) {
        return;
    }
    match file.compact() {
        Ok(_) => info!(before, after = length(), "the journal was compacted"),
        Err(error) => warn!(%error, "the journal cannot be compacted"),
    }
}
