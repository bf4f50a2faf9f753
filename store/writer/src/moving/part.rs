//! One key of a store with its value, in the form in which the other backend can store it.

use std::time::Duration;

use store::InstallationId;
use store::keys::{self, Content};
use store::record::Fields;

/// A place among the keys of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    pub table: Table,
    /// The last key that was read.
    pub key: String,
}

/// The tables of the file, in the order in which they are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Table {
    #[default]
    Hashes,
    Sorted,
    Strings,
}

/// One key with its value, or both keys of an installation.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Both halves of a record. The half that brokers read has a revision.
    Record {
        id: InstallationId,
        access: Fields,
        refresh: Fields,
    },
    Hash {
        key: String,
        fields: Fields,
    },
    Set {
        key: String,
        members: Vec<String>,
    },
    /// The messages of a queue, the first one first.
    List {
        key: String,
        items: Vec<Vec<u8>>,
    },
    /// Scores and members. The highest score stands for infinity.
    Sorted {
        key: String,
        members: Vec<(i64, String)>,
    },
    /// A string. `None`: it does not expire.
    Text {
        key: String,
        value: String,
        ttl: Option<Duration>,
    },
}

impl Part {
    /// The key; of a record the half that brokers read.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Record { id, .. } => keys::refresh(id),
            Self::Hash { key, .. }
            | Self::Set { key, .. }
            | Self::List { key, .. }
            | Self::Sorted { key, .. }
            | Self::Text { key, .. } => key.clone(),
        }
    }

    /// How many entries the key has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Record { refresh, .. } => refresh.iter().count(),
            Self::Hash { fields, .. } => fields.iter().count(),
            Self::Set { members, .. } => members.len(),
            Self::List { items, .. } => items.len(),
            Self::Sorted { members, .. } => members.len(),
            Self::Text { .. } => 1,
        }
    }

    /// Whether it is a set or a sorted set, whose members do not depend on each other.
    pub(crate) fn is_set(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Sorted { .. })
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        let of = |fields: &Fields| -> usize {
            let sizes = fields.iter().map(|(name, value)| name.len() + value.len());
            sizes.sum()
        };
        match self {
            Self::Record {
                access, refresh, ..
            } => of(access) + of(refresh),
            Self::Hash { fields, .. } => of(fields),
            Self::Set { members, .. } => members.iter().map(String::len).sum(),
            Self::List { items, .. } => items.iter().map(Vec::len).sum(),
            Self::Sorted { members, .. } => members.iter().map(|(_, it)| it.len() + 8).sum(),
            Self::Text { value, .. } => value.len(),
        }
    }
}

/// How much a store has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All keys. A record counts as one.
    pub keys: u64,
    /// Installations.
    pub installations: u64,
    /// Names in the index: locations, companies, external ids.
    pub names: u64,
    /// Callers' keys, also revoked ones.
    pub callers: u64,
    /// Entries of the audit log.
    pub audit: u64,
    /// Events.
    pub events: u64,
    /// Messages that wait for endpoints.
    pub messages: u64,
    /// Messages that endpoints have not taken.
    pub dead_letters: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, part: &Part) {
        self.keys += 1;
        let len = part.len() as u64;
        match keys::content(&part.key()) {
            Content::Refresh(_) => self.installations += 1,
            Content::Location => self.names += 1,
            Content::Caller => self.callers += 1,
            Content::Audit => self.audit += len,
            Content::Events => self.events += len,
            Content::Queue => self.messages += len,
            Content::DeadLetters => self.dead_letters += len,
            Content::Access(_) | Content::Store | Content::Callers | Content::Other => {}
        }
    }
}
