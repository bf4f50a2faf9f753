//! What a store must be able to do. Two can: Redis, and a file of this process.
//!
//! A backend moves fields and scores. It decides nothing.

pub mod embedded;
pub mod redis;

use std::time::Duration;

use futures_util::future::BoxFuture;
use store::record::Fields;
use store::{InstallationId, KeyHash, Timestamp, keys};

use crate::check::{Facts, ProbeError};
use crate::durable::Durable;
use crate::identity::{Servers, StoreMark};
use crate::writer::WriteError;

pub type Answer<'a, T> = BoxFuture<'a, Result<T, WriteError>>;

/// Both halves of a record, read at one moment.
#[derive(Debug)]
pub struct Loaded {
    pub access: Fields,
    pub refresh: Fields,
    /// The store's time of the reading.
    pub now: Timestamp,
}

impl Loaded {
    /// What a swap expects to find: the name of the last write, nothing where there is no record.
    #[must_use]
    pub fn revision(&self) -> Vec<u8> {
        revision_of(&self.refresh)
    }
}

/// The field that names the last write. Random, not a number: after a failover that lost writes a
/// number would come again and mean something else.
pub const REVISION: &str = "rev";

/// One write: fields to set and remove, if the record is still at the expected revision.
#[derive(Debug)]
pub struct Swap {
    pub id: InstallationId,
    /// Empty: there must be no record yet.
    pub expected: Vec<u8>,
    pub access: Fields,
    /// Includes the new revision.
    pub refresh: Fields,
    pub removed: Vec<String>,
    /// `None`: it leaves the schedule.
    pub wake_at: Option<Timestamp>,
    pub schedule: Schedule,
    /// `None`: never, or it does not matter any more.
    pub expires_at: Option<Timestamp>,
    /// What readers are told.
    pub announce: Option<String>,
}

/// Which schedule an installation is on. Those in doubt have one of their own: they are looked
/// after first, and go on while no new token is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Its token is to be refreshed.
    Due,
    /// An attempt is under way, or its outcome is unknown.
    InDoubt,
}

impl Schedule {
    pub const ALL: [Self; 2] = [Self::InDoubt, Self::Due];

    #[must_use]
    pub fn key(self, partition: u8) -> String {
        match self {
            Self::Due => keys::due(partition),
            Self::InDoubt => keys::doubt(partition),
        }
    }

    /// The one that an installation is not on.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Due => Self::InDoubt,
            Self::InDoubt => Self::Due,
        }
    }
}

impl Swap {
    /// The name of this write.
    #[must_use]
    pub fn revision(&self) -> Vec<u8> {
        revision_of(&self.refresh)
    }
}

fn revision_of(refresh: &Fields) -> Vec<u8> {
    refresh
        .bytes(REVISION)
        .map(<[u8]>::to_vec)
        .unwrap_or_default()
}

/// Whether a write is where a failover does not lose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    Confirmed,
    /// It is not on enough replicas, or nobody can tell.
    Unconfirmed,
    /// The record has another revision: somebody wrote on top of it, or a new master never had it.
    Overwritten,
}

/// What a part of the store held under a name; `None` where it does not answer.
pub type Held = Option<Option<i64>>;

/// How far into each partition a look goes.
pub const DEPTH: usize = 4;

/// What lies ahead, as far as a look goes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// What is due by now, the soonest first: for each installation its partition, and since when.
    pub due: Vec<(u8, Timestamp)>,
    /// When the next thing after those is due; `None`: nothing is scheduled.
    pub next_in: Option<Duration>,
    /// How many partitions did not answer; more may be due there.
    pub missing: usize,
}

impl Upcoming {
    /// Of the first [`DEPTH`] times of every partition.
    #[must_use]
    pub fn of(scheduled: impl IntoIterator<Item = (u8, Timestamp)>, now: Timestamp) -> Self {
        let (mut due, later): (Vec<_>, Vec<_>) =
            scheduled.into_iter().partition(|(_, at)| *at <= now);
        due.sort_unstable_by_key(|(_, at)| *at);
        Self {
            due,
            next_in: later.into_iter().map(|(_, at)| at.since(now)).min(),
            missing: 0,
        }
    }
}

/// The whole stock at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stock {
    pub installations: u64,
    /// Those whose tokens are being refreshed.
    pub refreshing: u64,
    /// Until the first of their access tokens expires; zero where one has.
    pub nearest_expiry: Option<Duration>,
}

pub trait Backend: std::fmt::Debug + Send + Sync + 'static {
    fn load<'a>(&'a self, id: &'a InstallationId) -> Answer<'a, Loaded>;
    /// Whether it was swapped; false where somebody else wrote first.
    fn swap(&self, swap: Swap) -> Answer<'_, bool>;

    /// What the store says of itself; `None` where nobody has marked it.
    fn mark(&self) -> Answer<'_, Option<StoreMark>>;
    /// Marks the store, unless it is marked; what it says of itself then.
    fn make_mark<'a>(&'a self, mark: &'a StoreMark) -> Answer<'a, StoreMark>;
    /// The servers that hold the data, as far as they answer; `None` where they may not be asked.
    fn servers(&self) -> Answer<'_, Option<Servers>>;
    /// Writes a number under `name` for some minutes, in every part of the store that can lose writes
    /// by itself. Each part tells the number that it held before, if it answers.
    fn tide<'a>(&'a self, name: &'a str, number: i64) -> Answer<'a, Vec<Held>>;
    /// A number that grows before anything is read that another server has, or the same one after a
    /// restart. Asks nobody.
    fn encounters(&self) -> u64;
    /// The file of this process that holds the store; `None` where a server does.
    fn file(&self) -> Option<&Durable> {
        None
    }

    /// What the servers that take writes tell about themselves; those that do not answer are left
    /// out.
    fn facts(&self) -> Answer<'_, Vec<Facts>>;
    /// Writes a value into a partition, reads it back and deletes it.
    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>>;

    /// Whether another server may take this one's place, without its last writes.
    fn can_fail_over(&self) -> bool;

    /// Asks whether a write, named by its revision, is on as many replicas as it is to be.
    fn confirm<'a>(
        &'a self,
        id: &'a InstallationId,
        revision: &'a [u8],
    ) -> Answer<'a, Confirmation>;

    /// Takes up to `limit` ids that were due at `by`, and puts them off by `claim` from now in the
    /// same step.
    fn claim(
        &self,
        schedule: Schedule,
        partition: u8,
        limit: usize,
        by: Timestamp,
        claim: Duration,
    ) -> Answer<'_, Vec<InstallationId>>;
    /// Looks at a scheduled id at `at`, unless it is scheduled sooner or not at all.
    fn hasten<'a>(&'a self, id: &'a InstallationId, at: Timestamp) -> Answer<'a, ()>;
    /// Takes an id without a record off the schedule.
    fn unschedule<'a>(&'a self, id: &'a InstallationId) -> Answer<'a, ()>;
    fn upcoming(&self, schedule: Schedule) -> Answer<'_, Upcoming>;
    fn stock(&self) -> Answer<'_, Stock>;
    /// Bytes of memory that the store's data take; `None` where they are not in memory.
    fn memory(&self) -> Answer<'_, Option<u64>>;
    /// All ids of a partition, in order.
    fn ids(&self, partition: u8) -> Answer<'_, Vec<InstallationId>>;

    fn location<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>>;
    /// The id of a location or company: `id`, unless it has one already.
    fn name_location<'a>(&'a self, name: &'a str, id: &'a InstallationId) -> Answer<'a, String>;

    fn put_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> Answer<'a, ()>;
    fn callers(&self) -> Answer<'_, Vec<(KeyHash, Fields)>>;

    /// Keeps a short-lived value; false where there is one already.
    fn remember<'a>(&'a self, key: &'a str, value: &'a str, ttl: Duration) -> Answer<'a, bool>;
    fn recall<'a>(&'a self, key: &'a str) -> Answer<'a, Option<String>>;
    /// Puts `next` in the place of `expected`, for `ttl`; `None` is no value. False: there is
    /// another one, and nothing was changed.
    fn replace<'a>(
        &'a self,
        key: &'a str,
        expected: Option<&'a str>,
        next: Option<&'a str>,
        ttl: Duration,
    ) -> Answer<'a, bool>;
    /// Drops a short-lived value; whether there was one.
    fn forget<'a>(&'a self, key: &'a str) -> Answer<'a, bool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_comes_first_whatever_its_partition() {
        let at = Timestamp::from_millis;
        let scheduled = [
            (0, at(30)),
            (0, at(90)),
            (7, at(10)),
            (7, at(20)),
            (9, at(70)),
        ];
        let upcoming = Upcoming::of(scheduled, at(50));
        assert_eq!(upcoming.due, [(7, at(10)), (7, at(20)), (0, at(30))]);
        assert_eq!(upcoming.next_in, Some(Duration::from_millis(20)));
        assert_eq!(Upcoming::of([], at(50)), Upcoming::default());
    }
}
