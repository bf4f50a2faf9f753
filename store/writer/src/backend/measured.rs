//! A backend with metrics: the duration and the failures of its requests, by kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use store::audit::Day;
use store::key_list::RingKind;
use store::metrics::{RequestError, Requests};
use store::record::Fields;
use store::{AppName, InstallationId, KeyHash, Timestamp};

use super::audit::{AuditBackend, AuditList, AuditRow};
use super::index::{IndexBackend, Removal};
use super::outbox::{ListEntries, OutboxBackend};
use super::stats::{NamedCounts, StatsBackend};
use super::{
    Backend, BackendFuture, CanaryReading, Confirmation, DueEntries, DuePoll, Loaded, Outline,
    Schedule, StoreStats, Swap,
};
use crate::check::{Facts, ProbeError};
use crate::error::WriteError;
use crate::group_commit_db::GroupCommitDb;
use crate::identity::{Servers, StoreMark};
use crate::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};

/// Every kind of request. Each has the duration of one operation, since each is a histogram of its own.
#[derive(Debug)]
struct Kinds {
    load: Requests,
    swap: Requests,
    confirm: Requests,
    claim: Requests,
    schedule: Requests,
    count: Requests,
    list: Requests,
    value: Requests,
    index: Requests,
    keys: Requests,
    audit: Requests,
    outbox: Requests,
    check: Requests,
}

/// A backend whose requests are measured.
#[derive(Debug)]
pub(crate) struct Measured {
    inner: Arc<dyn Backend>,
    kinds: Kinds,
}

impl Measured {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Self {
        Self {
            inner,
            kinds: Kinds {
                load: Requests::new("load"),
                swap: Requests::new("swap"),
                confirm: Requests::new("confirm"),
                claim: Requests::new("claim"),
                // The steps of a broker have the names `schedule` and `refresh`.
                schedule: Requests::new("poll"),
                count: Requests::new("count"),
                list: Requests::new("list"),
                value: Requests::new("value"),
                index: Requests::new("index"),
                keys: Requests::new("keys"),
                audit: Requests::new("audit"),
                outbox: Requests::new("outbox"),
                check: Requests::new("check"),
            },
        }
    }
}

impl RequestError for WriteError {
    fn is_of_store(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Refused(_) | Self::Unconfirmed(_) => true,
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Contended(_)
            | Self::Unknown(_) => false,
        }
    }
}

/// Passes operations on, and measures each as a request of a kind.
macro_rules! measured {
    ($($kind:ident: fn $name:ident<$life:lifetime>($($argument:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $name<$life>(&$life self, $($argument: $type),*) -> BackendFuture<$life, $output> {
            Box::pin(self.kinds.$kind.observe(self.inner.$name($($argument),*)))
        }
    )*};
}

impl Backend for Measured {
    measured! {
        load: fn load<'a>(id: &'a InstallationId) -> Loaded;
        swap: fn swap<'a>(swap: Swap) -> bool;
        check: fn mark<'a>() -> Option<StoreMark>;
        check: fn make_mark<'a>(mark: &'a StoreMark) -> StoreMark;
        keys: fn key_list<'a>(ring: RingKind) -> Fields;
        keys: fn swap_key_list<'a>(ring: RingKind, expected: &'a [u8], next: Fields) -> bool;
        check: fn servers<'a>() -> Option<Servers>;
        check: fn write_canary<'a>(name: &'a str, number: i64) -> Vec<CanaryReading>;
        check: fn facts<'a>() -> Vec<Facts>;
        confirm: fn confirm<'a>(id: &'a InstallationId, revision: &'a [u8]) -> Confirmation;
        claim: fn claim<'a>(
            schedule: Schedule, app: &'a AppName, due: DueEntries, claim: Duration
        ) -> Vec<InstallationId>;
        schedule: fn reschedule_earlier<'a>(
            id: &'a InstallationId, app: &'a AppName, at: Timestamp
        ) -> ();
        schedule: fn unschedule<'a>(id: &'a InstallationId, app: &'a AppName) -> ();
        schedule: fn poll_due<'a>(schedule: Schedule, app: &'a AppName) -> DuePoll;
        count: fn count_due<'a>(app: &'a AppName, by: Timestamp) -> u64;
        count: fn count_expiring<'a>(by: Timestamp) -> u64;
        count: fn stats<'a>() -> StoreStats;
        count: fn memory<'a>() -> Option<u64>;
        index: fn apps<'a>() -> Fields;
        index: fn free_app<'a>(name: &'a AppName) -> bool;
        index: fn name_app<'a>(name: &'a AppName, app_id: &'a str) -> String;
        list: fn family<'a>(family: &'a str) -> Vec<InstallationId>;
        list: fn ids<'a>(partition: u8) -> Vec<InstallationId>;
        list: fn outlines<'a>(partition: u8, from: usize, limit: usize) -> Vec<Option<Outline>>;
        keys: fn put_caller<'a>(key: &'a KeyHash, fields: Fields) -> ();
        keys: fn insert_caller<'a>(key: &'a KeyHash, fields: Fields) -> bool;
        keys: fn callers<'a>() -> Vec<(KeyHash, Fields)>;
        value: fn put_if_absent<'a>(key: &'a str, value: &'a str, ttl: Duration) -> bool;
        value: fn get<'a>(key: &'a str) -> Option<String>;
        value: fn compare_and_set<'a>(
            key: &'a str, expected: Option<&'a str>, next: Option<&'a str>, ttl: Duration
        ) -> bool;
        value: fn delete<'a>(key: &'a str) -> bool;
    }

    fn server_change_count(&self) -> u64 {
        self.inner.server_change_count()
    }

    fn file(&self) -> Option<&GroupCommitDb> {
        self.inner.file()
    }

    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>> {
        self.inner.probe(partition)
    }

    fn probe_key<'a>(&'a self, key: &'a str, ttl: Duration) -> BackendFuture<'a, ()> {
        self.inner.probe_key(key, ttl)
    }

    fn can_fail_over(&self) -> bool {
        self.inner.can_fail_over()
    }
}

impl AuditBackend for Measured {
    measured! {
        audit: fn append_audit<'a>(list: AuditList, rows: Vec<AuditRow>) -> ();
        audit: fn audit<'a>(list: AuditList, limit: usize) -> Vec<String>;
        audit: fn record_key_uses<'a>(uses: Vec<(KeyHash, Day)>) -> ();
        audit: fn key_uses<'a>() -> Vec<(KeyHash, Day)>;
    }
}

impl StatsBackend for Measured {
    measured! {
        count: fn add_counts<'a>(bucket: u32, counts: NamedCounts) -> ();
        count: fn counts<'a>(first: u32, len: u32) -> Vec<NamedCounts>;
        count: fn note_seen<'a>(seen: Vec<(String, String)>, gone: Vec<String>) -> ();
        count: fn seen<'a>() -> BTreeMap<String, String>;
        count: fn soonest_expiries<'a>(limit: usize) -> Vec<(InstallationId, Timestamp)>;
    }
}

impl IndexBackend for Measured {
    measured! {
        index: fn location<'a>(name: &'a str) -> Fields;
        index: fn get_or_insert_location<'a>(
            app: &'a AppName, name: &'a str, id: &'a InstallationId
        ) -> String;
        index: fn replace_location<'a>(
            app: &'a AppName, name: &'a str, expected: &'a InstallationId, next: Option<&'a InstallationId>
        ) -> bool;
        index: fn remove<'a>(removal: Removal) -> bool;
    }
}

impl OutboxBackend for Measured {
    measured! {
        outbox: fn publish<'a>(subject: &'a Subject, publication: Publication) -> ();
        outbox: fn poll_deliveries<'a>(endpoint: &'a str, partitions: &'a [u8]) -> DuePoll;
        outbox: fn claim_deliveries<'a>(
            endpoint: &'a str, due: DueEntries, claim: Duration
        ) -> Vec<Subject>;
        outbox: fn queued<'a>(endpoint: &'a str, subject: &'a Subject, limit: usize) -> Queued;
        outbox: fn settle<'a>(
            endpoint: &'a str, subject: &'a Subject, settlement: &'a Settlement, pause: Duration
        ) -> ();
        outbox: fn hasten_deliveries<'a>(endpoint: &'a str, beyond: Duration) -> ();
        outbox: fn count_deliveries<'a>(endpoint: &'a str) -> QueueCount;
        outbox: fn read_list<'a>(list: &'a List, ranges: &'a [ListRange]) -> Vec<ListEntries>;
        outbox: fn complete_until<'a>() -> Timestamp;
        outbox: fn remove_dead_letter<'a>(
            endpoint: &'a str, partition: u8, letter: &'a str
        ) -> ();
        outbox: fn forget_dead_letters<'a>(endpoint: &'a str, until: Timestamp) -> ();
        outbox: fn sweep_outbox<'a>() -> ();
    }
}
