//! The operations that a store must provide. Redis and an embedded database implement them.
//!
//! A backend moves fields and scores. It makes no decisions.

pub mod audit;
pub mod embedded;
pub mod index;
pub(crate) mod measured;
pub mod outbox;
pub mod redis;
pub mod stats;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use store::key_list::RingKind;
use store::record::Fields;
use store::{AppName, InstallationId, KeyHash, Timestamp, keys};

use crate::check::{Facts, ProbeError};
use crate::error::WriteError;
use crate::group_commit_db::GroupCommitDb;
use crate::identity::{Servers, StoreMark};
use crate::outbox::Publication;
use audit::AuditBackend;
use index::IndexBackend;
use outbox::OutboxBackend;
use stats::StatsBackend;

/// The result of an operation, boxed so that the trait can be used as an object.
pub type BackendFuture<'a, T> = BoxFuture<'a, Result<T, WriteError>>;

/// Both halves of a record, read atomically.
#[derive(Debug)]
pub struct Loaded {
    /// The half that gateways read; empty if there is no record.
    pub access: Fields,
    /// The half that only brokers read; empty if there is no record.
    pub refresh: Fields,
    /// The store's time of the reading.
    pub now: Timestamp,
}

impl Loaded {
    /// The revision that a swap must expect; empty if there is no record.
    #[must_use]
    pub fn revision(&self) -> Vec<u8> {
        revision_of(&self.refresh)
    }
}

/// The field that holds the revision: a random name of the last write. A counter would repeat its values
/// after a failover that lost writes.
pub const REVISION: &str = "rev";

/// One write: fields to set and remove, on condition that the record still has the expected revision.
#[derive(Debug)]
pub struct Swap {
    /// The installation that is written.
    pub id: InstallationId,
    /// The revision that the record must have; empty: there must be no record.
    pub expected: Vec<u8>,
    /// Fields to set in the half that gateways read.
    pub access: Fields,
    /// Fields to set in the half that only brokers read. Includes the new revision.
    pub refresh: Fields,
    /// Fields to remove from the half that only brokers read.
    pub removed: Vec<String>,
    /// Whether schedule and expiry stay as they are. The three fields that follow mean nothing then.
    pub keeps_schedule: bool,
    /// When the installation is due; `None`: it leaves its schedule.
    pub wake_at: Option<Timestamp>,
    /// The schedule that it belongs to.
    pub schedule: Schedule,
    /// The app whose schedule that is.
    pub app: AppName,
    /// When the access token expires; `None`: never, or the expiry is of no interest.
    pub expires_at: Option<Timestamp>,
    /// The groups of installations that it belongs to: see [`keys::family`].
    pub families: Vec<String>,
    /// The event that the write reports.
    pub event: Option<Publication>,
    /// The message to publish to readers: see [`store::Invalidation::to_message`].
    pub announce: Option<String>,
}

/// The schedule of an installation. Each app has its own, so that a broker sees no installation of an app that it does
/// not know. Installations with an open intent have their own schedule. Brokers
/// process it first, and also during an outage, when they spend no new tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Its token is due for a refresh.
    Due,
    /// An attempt is in progress, or its outcome is unknown.
    OpenIntent,
}

impl Schedule {
    /// Both schedules, in the order in which brokers process them.
    pub const ALL: [Self; 2] = [Self::OpenIntent, Self::Due];

    /// The key of the sorted set of an app.
    #[must_use]
    pub fn key(self, partition: u8, app: &AppName) -> String {
        match self {
            Self::Due => keys::due(partition, app),
            Self::OpenIntent => keys::open_intents(partition, app),
        }
    }

    /// The other schedule.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Due => Self::OpenIntent,
            Self::OpenIntent => Self::Due,
        }
    }
}

impl Swap {
    /// The revision of this write.
    #[must_use]
    pub fn revision(&self) -> Vec<u8> {
        revision_of(&self.refresh)
    }
}

impl Outline {
    /// The fields of a record that was read whole.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let field = |fields: &Fields, name| fields.bytes(name).ok().map(<[u8]>::to_vec);
        Self {
            has_expiry: false,
            status: field(&loaded.access, outline::STATUS),
            parent: field(&loaded.access, outline::PARENT),
            expires_at: field(&loaded.access, outline::EXPIRES_AT),
            generation: field(&loaded.access, outline::GENERATION),
            refused: field(&loaded.refresh, outline::REFUSED),
        }
    }
}

/// The names of the fields of an [`Outline`], as [`crate::Installation`] stores them.
pub(crate) mod outline {
    pub(crate) const STATUS: &str = "st";
    pub(crate) const PARENT: &str = "par";
    pub(crate) const EXPIRES_AT: &str = "exp";
    pub(crate) const GENERATION: &str = "gen";
    /// Of the half that only brokers read.
    pub(crate) const REFUSED: &str = "refused";
}

fn revision_of(refresh: &Fields) -> Vec<u8> {
    refresh
        .bytes(REVISION)
        .map(<[u8]>::to_vec)
        .unwrap_or_default()
}

/// Whether a write survives a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Enough replicas have the write.
    Confirmed,
    /// Too few replicas have the write, or none could be asked.
    Unconfirmed,
    /// The record has another revision. Another process wrote after it, or a new master never had the write.
    Overwritten,
}

/// The number that a part of the store held before the canary was written. The outer `None`: the part did not
/// answer. The inner `None`: it held none.
pub type CanaryReading = Option<Option<i64>>;

/// How many entries of each partition a poll reads.
pub const POLL_DEPTH: usize = 4;

/// The due installations, and when the next one is due, as far as one poll reads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DuePoll {
    /// The due entries, the earliest first: the partition of each installation, and since when it is due.
    pub due: Vec<(u8, Timestamp)>,
    /// The entries that follow, the earliest first.
    pub later: Vec<(u8, Timestamp)>,
    /// The time until the first of them is due; `None`: nothing more is scheduled.
    pub next_in: Option<Duration>,
    /// How many partitions did not answer. More may be due there.
    pub missing: usize,
}

impl DuePoll {
    /// From the first [`POLL_DEPTH`] entries of every partition.
    #[must_use]
    pub fn of(scheduled: impl IntoIterator<Item = (u8, Timestamp)>, now: Timestamp) -> Self {
        let (mut due, mut later): (Vec<_>, Vec<_>) =
            scheduled.into_iter().partition(|(_, at)| *at <= now);
        due.sort_unstable_by_key(|(_, at)| *at);
        later.sort_unstable_by_key(|(_, at)| *at);
        Self {
            due,
            next_in: later.first().map(|(_, at)| at.since(now)),
            later,
            missing: 0,
        }
    }

    /// The first entry that is due later than `beyond` from now.
    #[must_use]
    pub fn later_than(&self, beyond: Duration) -> Option<(u8, Timestamp)> {
        let (_, first) = *self.later.first()?;
        let now = first - self.next_in?;
        let mut later = self.later.iter().copied();
        later.find(|(_, at)| at.since(now) > beyond)
    }
}

/// Entries of one partition of a schedule, as a poll found them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueEntries {
    /// The partition.
    pub partition: u8,
    /// The most entries to take.
    pub limit: usize,
    /// The earliest time of the entries; `None`: any.
    pub from: Option<Timestamp>,
    /// The latest time of the entries.
    pub by: Timestamp,
}

impl DueEntries {
    /// The entries of each partition, in the order of their first.
    #[must_use]
    pub fn by_partition(due: &[(u8, Timestamp)]) -> Vec<Self> {
        let mut places: BTreeMap<u8, usize> = BTreeMap::new();
        let mut groups: Vec<Self> = Vec::new();
        for (partition, at) in due {
            let place = *places.entry(*partition).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => {
                    group.by = group.by.max(*at);
                    group.limit += 1;
                }
                None => groups.push(Self {
                    partition: *partition,
                    limit: 1,
                    from: None,
                    by: *at,
                }),
            }
        }
        groups
    }
}

/// Counts over all installations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// All installations.
    pub installations: u64,
    /// Installations whose tokens are refreshed: those with an expiry.
    pub refreshing: u64,
    /// When the first of their access tokens expires, or has expired.
    pub nearest_expiry: Option<Timestamp>,
}

/// The fields of a record that a count of states needs. They are read without the tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Whether its token is refreshed, so that its expiry is known to the store. Its status is active then, and it is of
    /// no agency. The following three are not read for it.
    pub has_expiry: bool,
    /// The field of the status.
    pub status: Option<Vec<u8>>,
    /// The field of the agency's installation.
    pub parent: Option<Vec<u8>>,
    /// The field of the time when the access token expires.
    pub expires_at: Option<Vec<u8>>,
    /// The field of the generation. Read only if the next one is not empty.
    pub generation: Option<Vec<u8>>,
    /// The field that says that GHL refused the refresh token.
    pub refused: Option<Vec<u8>>,
}

/// A store. Implementations must make each operation atomic.
pub trait Backend:
    AuditBackend + IndexBackend + OutboxBackend + StatsBackend + std::fmt::Debug + Send + Sync + 'static
{
    /// Reads both halves of a record.
    fn load<'a>(&'a self, id: &'a InstallationId) -> BackendFuture<'a, Loaded>;
    /// Whether the write was applied; false if another process wrote first.
    fn swap(&self, swap: Swap) -> BackendFuture<'_, bool>;

    /// The store's own id and format; `None` if it has none yet.
    fn mark(&self) -> BackendFuture<'_, Option<StoreMark>>;
    /// Gives the store this id, unless it has one. Returns the id that it has then.
    fn make_mark<'a>(&'a self, mark: &'a StoreMark) -> BackendFuture<'a, StoreMark>;
    /// The list of a ring's keys: see [`store::key_list`]. Empty if there is none.
    fn key_list(&self, ring: RingKind) -> BackendFuture<'_, Fields>;
    /// Replaces the list of a ring's keys if it has the revision `expected`; empty: there is no list. False if
    /// it has another revision; nothing is changed then.
    fn swap_key_list<'a>(
        &'a self,
        ring: RingKind,
        expected: &'a [u8],
        next: Fields,
    ) -> BackendFuture<'a, bool>;
    /// The servers that hold the data, as far as they answer; `None` if this user may not ask.
    fn servers(&self) -> BackendFuture<'_, Option<Servers>>;
    /// Writes a number under `name`, with a TTL of minutes, in every part of the store that can lose writes
    /// independently. Returns the previous number of each part. A broker detects lost writes with it.
    fn write_canary<'a>(
        &'a self,
        name: &'a str,
        number: i64,
    ) -> BackendFuture<'a, Vec<CanaryReading>>;
    /// A counter that grows before anything is read from another server, or from the same one after a
    /// restart. Sends no request.
    fn server_change_count(&self) -> u64;
    /// The database file of this process; `None` if the store is a server.
    fn file(&self) -> Option<&GroupCommitDb> {
        None
    }

    /// Self-reports of the servers that accept writes. Servers that do not answer are left out.
    fn facts(&self) -> BackendFuture<'_, Vec<Facts>>;
    /// Writes a value into a partition, reads it back and deletes it.
    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>>;
    /// Writes a value to this key, with a TTL, and deletes it. A refusal is a finding about the store and no failed request,
    /// so it is not counted as one.
    fn probe_key<'a>(&'a self, key: &'a str, ttl: Duration) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            self.put_if_absent(key, "probe", ttl).await?;
            self.delete(key).await.map(drop)
        })
    }

    /// Whether another server may become the master without having the last writes.
    fn can_fail_over(&self) -> bool;

    /// Whether the write of this revision is on the required number of replicas.
    fn confirm<'a>(
        &'a self,
        id: &'a InstallationId,
        revision: &'a [u8],
    ) -> BackendFuture<'a, Confirmation>;

    /// Takes ids that are due, and reschedules them to `claim` from now in the same step.
    fn claim<'a>(
        &'a self,
        schedule: Schedule,
        app: &'a AppName,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<InstallationId>>;
    /// Reschedules an id to `at`, unless it is due earlier or not scheduled.
    fn reschedule_earlier<'a>(
        &'a self,
        id: &'a InstallationId,
        app: &'a AppName,
        at: Timestamp,
    ) -> BackendFuture<'a, ()>;
    /// Removes an id without a record from both schedules.
    fn unschedule<'a>(&'a self, id: &'a InstallationId, app: &'a AppName) -> BackendFuture<'a, ()>;
    /// Reads the first entries of every partition of an app's schedule.
    fn poll_due<'a>(&'a self, schedule: Schedule, app: &'a AppName) -> BackendFuture<'a, DuePoll>;
    /// Counts the ids of an app that were due at `by`.
    fn count_due<'a>(&'a self, app: &'a AppName, by: Timestamp) -> BackendFuture<'a, u64>;

    /// Counts the installations whose access token expires at `by` or earlier.
    fn count_expiring(&self, by: Timestamp) -> BackendFuture<'_, u64>;

    /// The ids at GHL of all apps, by their names.
    fn apps(&self) -> BackendFuture<'_, Fields>;
    /// Forgets the id at GHL of an app. Whether there was one.
    fn free_app<'a>(&'a self, name: &'a AppName) -> BackendFuture<'a, bool>;
    /// Notes the id at GHL of an app, unless the name is taken. Returns the id that has the name.
    fn name_app<'a>(&'a self, name: &'a AppName, app_id: &'a str) -> BackendFuture<'a, String>;
    /// Counts all installations.
    fn stats(&self) -> BackendFuture<'_, StoreStats>;
    /// The memory that the store's data take, in bytes; `None` if they are not in memory.
    fn memory(&self) -> BackendFuture<'_, Option<u64>>;
    /// The ids that were written with this [`Swap::families`], in ascending order. Some may have left it since.
    fn family<'a>(&'a self, family: &'a str) -> BackendFuture<'a, Vec<InstallationId>>;
    /// All ids of a partition, in ascending order.
    fn ids(&self, partition: u8) -> BackendFuture<'_, Vec<InstallationId>>;
    /// Up to `limit` records of a partition in the order of their expiries, from the one with the number `from` on. Not
    /// atomic: records that are written meanwhile may be missing or be there twice. `None` stands for an entry that is no
    /// id, so that the length says whether there are more.
    fn outlines(
        &self,
        partition: u8,
        from: usize,
        limit: usize,
    ) -> BackendFuture<'_, Vec<Option<Outline>>> {
        Box::pin(async move {
            let ids = self.ids(partition).await?;
            let mut outlines = Vec::new();
            for id in ids.iter().skip(from).take(limit) {
                outlines.push(Some(Outline::of(&self.load(id).await?)));
            }
            Ok(outlines)
        })
    }

    /// Stores the record of a caller's key, and announces it to readers.
    fn put_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, ()>;
    /// Stores the record of a caller's key unless there is one, and announces it to readers. Whether there was none.
    fn insert_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, bool>;
    /// The records of all callers' keys.
    fn callers(&self) -> BackendFuture<'_, Vec<(KeyHash, Fields)>>;

    /// Stores a value with a TTL; false if the key has a value already.
    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BackendFuture<'a, bool>;
    /// The value of a key that [`Backend::put_if_absent`] or [`Backend::compare_and_set`] stored.
    fn get<'a>(&'a self, key: &'a str) -> BackendFuture<'a, Option<String>>;
    /// Replaces `expected` by `next` with a TTL; `None` stands for no value. False if the key has another
    /// value; nothing is changed then.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<&'a str>,
        next: Option<&'a str>,
        ttl: Duration,
    ) -> BackendFuture<'a, bool>;
    /// Deletes a value with a TTL. Whether there was one.
    fn delete<'a>(&'a self, key: &'a str) -> BackendFuture<'a, bool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_entries_of_all_partitions_are_sorted_by_time() {
        let at = Timestamp::from_millis;
        let scheduled = [
            (0, at(30)),
            (0, at(90)),
            (7, at(10)),
            (7, at(20)),
            (9, at(70)),
        ];
        let upcoming = DuePoll::of(scheduled, at(50));
        assert_eq!(upcoming.due, [(7, at(10)), (7, at(20)), (0, at(30))]);
        assert_eq!(upcoming.later, [(9, at(70)), (0, at(90))]);
        assert_eq!(upcoming.next_in, Some(Duration::from_millis(20)));
        assert_eq!(DuePoll::of([], at(50)), DuePoll::default());
    }

    #[test]
    fn due_entries_are_grouped_by_partition_in_the_order_of_their_first() {
        let at = Timestamp::from_millis;
        let groups = DueEntries::by_partition(&[(7, at(1)), (3, at(2)), (7, at(5))]);
        let groups = groups.iter().map(|it| (it.partition, it.by, it.limit));
        assert_eq!(groups.collect::<Vec<_>>(), [(7, at(5), 2), (3, at(2), 1)]);
    }
}
