//! The audit log and the last uses of keys, as a backend keeps them.

use store::audit::{Day, MOST_ENTRIES, MOST_FETCHES, MOST_STRANGERS};
use store::{KeyHash, Timestamp, keys};

use super::BackendFuture;

/// The lists of the audit log. Each keeps its newest entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditList {
    /// Everything but the entries of the other lists.
    Main,
    /// Tokens that services got.
    Fetches,
    /// Requests of strangers that were refused.
    Strangers,
}

impl AuditList {
    /// Every list.
    pub const ALL: [Self; 3] = [Self::Main, Self::Fetches, Self::Strangers];

    /// The key of the list's sorted set.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Main => keys::AUDIT,
            Self::Fetches => keys::AUDIT_FETCHES,
            Self::Strangers => keys::AUDIT_STRANGERS,
        }
    }

    /// The most entries that are kept.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Main => MOST_ENTRIES,
            Self::Fetches => MOST_FETCHES,
            Self::Strangers => MOST_STRANGERS,
        }
    }
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When it happened. Entries are in the order of this time.
    pub at: Timestamp,
    /// The entry as JSON. A row that is there already is not written again.
    pub json: String,
    /// An earlier form of the entry, which is removed.
    pub replaces: Option<String>,
}

/// The part of a store that answers who did what.
pub trait AuditBackend: Send + Sync {
    /// Adds rows to a list, and removes the oldest beyond its size, at the latest with one of the next additions.
    fn append_audit(&self, list: AuditList, rows: Vec<AuditRow>) -> BackendFuture<'_, ()>;
    /// The newest entries of a list as JSON, the newest first.
    fn audit(&self, list: AuditList, limit: usize) -> BackendFuture<'_, Vec<String>>;
    /// Records that keys were used on these days. Earlier days than the recorded ones change nothing.
    fn record_key_uses(&self, uses: Vec<(KeyHash, Day)>) -> BackendFuture<'_, ()>;
    /// The days of the last uses. Keys that were never used are missing.
    fn key_uses(&self) -> BackendFuture<'_, Vec<(KeyHash, Day)>>;
}
