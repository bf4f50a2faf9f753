//! What a store must be able to do. Two can: Redis, and a file of this process.
//!
//! A backend moves fields and scores. It decides nothing.

pub mod embedded;
pub mod redis;

use std::time::Duration;

use futures_util::future::BoxFuture;
use store::record::Fields;
use store::{InstallationId, KeyHash, Timestamp};

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
        self.refresh
            .bytes(REVISION)
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
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
    /// `None`: never, or it does not matter any more.
    pub expires_at: Option<Timestamp>,
    /// What readers are told.
    pub announce: Option<String>,
}

impl Swap {
    /// The name of this write.
    #[must_use]
    pub fn revision(&self) -> Vec<u8> {
        self.refresh
            .bytes(REVISION)
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
    }
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

/// What lies ahead.
#[derive(Debug, Default, Clone)]
pub struct Upcoming {
    /// The partitions in which something is due by now.
    pub due: Vec<u8>,
    /// When the next thing after those is due; `None`: nothing is scheduled.
    pub next_in: Option<Duration>,
    /// Whether a part of the store did not answer, and more may be due there.
    pub is_partial: bool,
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

    /// Asks whether a write, named by its revision, is on as many replicas as it is to be.
    fn confirm<'a>(
        &'a self,
        id: &'a InstallationId,
        revision: &'a [u8],
    ) -> Answer<'a, Confirmation>;

    /// Takes up to `limit` ids that are due, and puts them off by `claim` in the same step.
    fn claim(
        &self,
        partition: u8,
        limit: usize,
        claim: Duration,
    ) -> Answer<'_, Vec<InstallationId>>;
    /// Looks at a scheduled id at `at`, unless it is scheduled sooner or not at all.
    fn hasten<'a>(&'a self, id: &'a InstallationId, at: Timestamp) -> Answer<'a, ()>;
    /// Takes an id without a record off the schedule.
    fn unschedule<'a>(&'a self, id: &'a InstallationId) -> Answer<'a, ()>;
    fn upcoming(&self) -> Answer<'_, Upcoming>;
    fn stock(&self) -> Answer<'_, Stock>;
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
}
