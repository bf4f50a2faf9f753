//! A broker of the previous schema of records, as far as the store can tell: the code of this version over a store
//! that shows and takes only the fields that the previous schema had.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::{Broker, Config, Parts};
use futures_util::future::BoxFuture;
use service::config::Settings;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use store::audit::Day;
use store::connection::{Address, RedisClient};
use store::freshness::Lead;
use store::key_list::RingKind;
use store::record::{Fields, StoredAccess};
use store::{AppName, InstallationId, KeyHash, Timestamp, TokenReader};
use store_writer::backend::audit::{AuditBackend, AuditList, AuditRow};
use store_writer::backend::index::{IndexBackend, Removal};
use store_writer::backend::outbox::{ListEntries, OutboxBackend};
use store_writer::backend::redis::RedisBackend;
use store_writer::backend::{
    Backend, BackendFuture, CanaryReading, Confirmation, DueEntries, DuePoll, Loaded, Schedule,
    StoreStats, Swap,
};
use store_writer::check::{Facts, ProbeError};
use store_writer::identity::{Servers, StoreMark};
use store_writer::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};
use store_writer::{Escrow, Journal, Leases, LockNodes, Rings, StoreWriter};

/// The schema before apps. Its records have these fields, and alternates.
const SCHEMA: u32 = 2;
const ACCESS: [&str; 10] = [
    "at", "com", "exp", "gen", "life", "loc", "par", "sc", "st", "ut",
];
const REFRESH: [&str; 13] = [
    "consent",
    "consented",
    "done",
    "due",
    "err",
    "fails",
    "fp",
    "intent",
    "locs",
    "made",
    "refused",
    "rev",
    "rt",
];

/// Fields that this version writes into the record of a usual installation, and the previous one did not know.
pub(super) const NEW: [&str; 3] = ["cid", "cust", "granted"];

/// A schema that no build reads.
const TOO_NEW: u32 = 999;

#[derive(Debug)]
pub(super) struct OlderStore {
    inner: RedisBackend,
    /// How many records got another generation.
    refreshed: AtomicU64,
}

impl OlderStore {
    fn new(inner: RedisBackend) -> Self {
        let refreshed = AtomicU64::new(0);
        Self { inner, refreshed }
    }
}

/// The fields that the previous schema had. A record for newer readers stays one that cannot be read.
fn known(fields: &Fields, names: &[&str]) -> Fields {
    let is_known = |name: &str| names.contains(&name) || name.starts_with("alt:");
    let all = fields.iter().filter(|(name, _)| is_known(name));
    let mut known: Fields = all
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect();
    let needed: Option<u32> = fields.parse_optional("min").unwrap();
    if needed.is_some_and(|needed| needed > SCHEMA) {
        known.set_min_schema(TOO_NEW);
    }
    known
}

macro_rules! delegate {
    ($life:lifetime; $($name:ident($($argument:ident: $type:ty),*) -> $out:ty;)*) => {
        $(
            fn $name<$life>(&$life self, $($argument: $type),*) -> BackendFuture<$life, $out> {
                self.inner.$name($($argument),*)
            }
        )*
    };
}

impl Backend for OlderStore {
    fn load<'a>(&'a self, id: &'a InstallationId) -> BackendFuture<'a, Loaded> {
        Box::pin(async move {
            let loaded = self.inner.load(id).await?;
            Ok(Loaded {
                access: known(&loaded.access, &ACCESS),
                refresh: known(&loaded.refresh, &REFRESH),
                now: loaded.now,
            })
        })
    }

    fn swap(&self, swap: Swap) -> BackendFuture<'_, bool> {
        Box::pin(async move {
            let is_refresh = swap.access.contains("gen");
            let swapped = self.inner.swap(Swap {
                access: known(&swap.access, &ACCESS),
                refresh: known(&swap.refresh, &REFRESH),
                // It had none.
                event: None,
                ..swap
            });
            let swapped = swapped.await?;
            if swapped && is_refresh {
                self.refreshed.fetch_add(1, Ordering::Relaxed);
            }
            Ok(swapped)
        })
    }

    fn server_change_count(&self) -> u64 {
        self.inner.server_change_count()
    }

    fn can_fail_over(&self) -> bool {
        self.inner.can_fail_over()
    }

    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>> {
        self.inner.probe(partition)
    }

    delegate! {'a;
        mark() -> Option<StoreMark>;
        make_mark(mark: &'a StoreMark) -> StoreMark;
        key_list(ring: RingKind) -> Fields;
        swap_key_list(ring: RingKind, expected: &'a [u8], next: Fields) -> bool;
        servers() -> Option<Servers>;
        write_canary(name: &'a str, number: i64) -> Vec<CanaryReading>;
        facts() -> Vec<Facts>;
        confirm(id: &'a InstallationId, revision: &'a [u8]) -> Confirmation;
        claim(schedule: Schedule, app: &'a AppName, due: DueEntries, claim: Duration) -> Vec<InstallationId>;
        reschedule_earlier(id: &'a InstallationId, app: &'a AppName, at: Timestamp) -> ();
        unschedule(id: &'a InstallationId, app: &'a AppName) -> ();
        poll_due(schedule: Schedule, app: &'a AppName) -> DuePoll;
        count_due(app: &'a AppName, by: Timestamp) -> u64;
        count_expiring(by: Timestamp) -> u64;
        apps() -> Fields;
        free_app(name: &'a AppName) -> bool;
        name_app(name: &'a AppName, app_id: &'a str) -> String;
        stats() -> StoreStats;
        memory() -> Option<u64>;
        family(family: &'a str) -> Vec<InstallationId>;
        ids(partition: u8) -> Vec<InstallationId>;
        put_caller(key: &'a KeyHash, fields: Fields) -> ();
        insert_caller(key: &'a KeyHash, fields: Fields) -> bool;
        callers() -> Vec<(KeyHash, Fields)>;
        put_if_absent(key: &'a str, value: &'a str, ttl: Duration) -> bool;
        get(key: &'a str) -> Option<String>;
        compare_and_set(key: &'a str, expected: Option<&'a str>, next: Option<&'a str>, ttl: Duration) -> bool;
        delete(key: &'a str) -> bool;
    }
}

impl IndexBackend for OlderStore {
    delegate! {'a;
        location(name: &'a str) -> Fields;
        get_or_insert_location(app: &'a AppName, name: &'a str, id: &'a InstallationId) -> String;
        replace_location(app: &'a AppName, name: &'a str, expected: &'a InstallationId, next: Option<&'a InstallationId>) -> bool;
        remove(removal: Removal) -> bool;
    }
}

impl AuditBackend for OlderStore {
    delegate! {'a;
        append_audit(list: AuditList, rows: Vec<AuditRow>) -> ();
        audit(list: AuditList, limit: usize) -> Vec<String>;
        record_key_uses(uses: Vec<(KeyHash, Day)>) -> ();
        key_uses() -> Vec<(KeyHash, Day)>;
    }
}

impl OutboxBackend for OlderStore {
    delegate! {'a;
        publish(subject: &'a Subject, publication: Publication) -> ();
        poll_deliveries(endpoint: &'a str, partitions: &'a [u8]) -> DuePoll;
        claim_deliveries(endpoint: &'a str, due: DueEntries, claim: Duration) -> Vec<Subject>;
        queued(endpoint: &'a str, subject: &'a Subject, limit: usize) -> Queued;
        settle(endpoint: &'a str, subject: &'a Subject, settlement: &'a Settlement, pause: Duration) -> ();
        hasten_deliveries(endpoint: &'a str, beyond: Duration) -> ();
        count_deliveries(endpoint: &'a str) -> QueueCount;
        read_list(list: &'a List, ranges: &'a [ListRange]) -> Vec<ListEntries>;
        complete_until() -> Timestamp;
        remove_dead_letter(endpoint: &'a str, partition: u8, letter: &'a str) -> ();
        forget_dead_letters(endpoint: &'a str, until: Timestamp) -> ();
    }
}

/// A running broker of the previous schema, in this process.
pub(super) struct OlderBroker {
    store: Arc<OlderStore>,
    rings: Rings,
    shutdown: Shutdown,
    _broker: Broker,
}

impl OlderBroker {
    /// `settings`: those of a broker.
    pub(super) fn start(
        redis: &str,
        rings: &Rings,
        data: &Path,
        settings: &[(&str, String)],
    ) -> Self {
        // An error means that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = || Address::parse(&redis.into()).unwrap();
        let client = RedisClient::open(address()).unwrap();
        let store = Arc::new(OlderStore::new(RedisBackend::new(client, 0).unwrap()));
        let settings = settings.iter();
        let source: HashMap<String, String> = settings
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut read = Settings::new(&source);
        let config = Config::read(&mut read);
        let config = read.finish(config).unwrap();
        std::fs::create_dir_all(data).unwrap();
        let lease = config.timing.lease;
        let lock_nodes = LockNodes::start(&[redis.into()], "older", lease).unwrap();
        let parts = Parts {
            writer: StoreWriter::new(store.clone(), rings.clone(), Lead::Auto),
            reader: TokenReader::at(address(), rings.access.clone()).unwrap(),
            leases: Leases::redlock(lock_nodes.clone()),
            journal: Journal::open(data, config.journal_max).unwrap(),
            escrow: Escrow::none(),
            lock_nodes: Some(lock_nodes),
        };
        let shutdown = Shutdown::new();
        let broker = Broker::start(config, parts, &Readiness::new(), &shutdown).unwrap();
        Self {
            store,
            rings: rings.clone(),
            shutdown,
            _broker: broker,
        }
    }

    /// The store, as it reads and writes it.
    pub(super) fn writer(&self) -> StoreWriter {
        StoreWriter::new(self.store.clone(), self.rings.clone(), Lead::Auto)
    }

    pub(super) fn refreshed(&self) -> u64 {
        self.store.refreshed.load(Ordering::Relaxed)
    }

    /// For how long the token of an installation is still valid, as a gateway of the previous schema reads it.
    pub(super) async fn validity(&self, id: &InstallationId) -> Duration {
        let loaded = self.store.load(id).await.unwrap();
        let stored = StoredAccess::from_fields(&loaded.access).unwrap();
        let opened = stored.open(id, &self.rings.access).unwrap();
        opened.expires_at.unwrap().since(loaded.now)
    }

    pub(super) async fn stop(self) {
        self.shutdown.start();
        assert!(self.shutdown.finished(Duration::from_secs(30)).await);
    }
}
