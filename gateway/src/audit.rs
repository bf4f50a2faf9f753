//! Notes requests for the audit log, and uses of keys. A gateway cannot write to the store, so it reports them to a
//! broker, in the background.
//!
//! A request adds to a count in memory, and waits for nothing. Requests for tokens take one of 16 locks for the time of
//! a lookup. Other calls compare one number: a key is reported at most once an hour.

mod delivery;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::request::Parts;
use metrics::Counter;
use service::client_address::TrustedProxies;
use service::handler::Peer;
use service::locks::lock;
use store::audit::{Coalescer, Day, Event, Happened, Noted, Subject};
use store::{InstallationId, KeyHash, Timestamp, TokenReader};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::audit_dropped;
pub(crate) use delivery::Delivery;

/// One lock would be contended by services that fetch tokens all the time.
const SHARDS: usize = 16;

/// The most different events of a minute. About 200 bytes each.
const MOST_EVENTS: usize = 64 * 1024;

const HOUR_MS: i64 = 3_600_000;

/// Events and uses of keys that are to be reported.
pub(crate) struct AuditQueue {
    reader: TokenReader,
    proxies: TrustedProxies,
    hasher: RandomState,
    shards: [Mutex<Coalescer>; SHARDS],
    uses: Mutex<Uses>,
    wake: Notify,
    dropped: AtomicU64,
    dropped_total: Counter,
}

#[derive(Default)]
struct Uses {
    /// The hour in which each key was reported last.
    hours: HashMap<KeyHash, Arc<AtomicI64>>,
    pending: HashMap<KeyHash, Day>,
}

/// The hour in which a key was reported last.
#[derive(Debug, Clone)]
pub(crate) struct LastUse(Arc<AtomicI64>);

impl AuditQueue {
    pub(crate) fn new(reader: TokenReader, proxies: TrustedProxies) -> Self {
        Self {
            reader,
            proxies,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(Coalescer::new(MOST_EVENTS / SHARDS))),
            uses: Mutex::default(),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
            dropped_total: audit_dropped(),
        }
    }

    /// The address of a request, as far as it can be believed.
    pub(crate) fn address(&self, parts: &Parts) -> IpAddr {
        self.proxies
            .client(Peer::of(&parts.extensions), &parts.headers)
    }

    /// Notes an event. `key`: the caller's, if it is or was one. `installation`: one that exists.
    pub(crate) fn note(
        &self,
        happened: Happened,
        key: Option<KeyHash>,
        installation: Option<InstallationId>,
        from: IpAddr,
    ) {
        let shard = match key {
            Some(_) => self.hasher.hash_one((key, &installation)).to_ne_bytes()[0],
            // Their number is bounded within one shard.
            None => 0,
        };
        let subject = Subject {
            happened,
            key,
            installation,
        };
        let (at, now) = (self.reader.now(), Instant::now());
        let noted = lock(&self.shards[usize::from(shard) % SHARDS]).note(subject, from, at, now);
        match noted {
            Noted::Counted => {}
            Noted::New => self.wake.notify_one(),
            Noted::Dropped => self.drop_events(1),
        }
    }

    /// When the key was reported last. It outlives the cached record of the key.
    pub(crate) fn last_use(&self, key: &KeyHash) -> LastUse {
        let mut uses = lock(&self.uses);
        let hour = uses
            .hours
            .entry(*key)
            .or_insert_with(|| Arc::new(AtomicI64::new(-1)));
        LastUse(Arc::clone(hour))
    }

    /// Notes that the key was used.
    pub(crate) fn used(&self, key: &KeyHash, last: &LastUse, now: Timestamp) {
        let hour = now.as_millis().div_euclid(HOUR_MS);
        if last.0.load(Ordering::Relaxed) == hour || last.0.swap(hour, Ordering::Relaxed) == hour {
            return;
        }
        lock(&self.uses).pending.insert(*key, Day::of(now));
        self.wake.notify_one();
    }

    fn due(&self, now: Instant) -> Vec<Event> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| lock(shard).due(now)).collect()
    }

    fn close(&self) -> Vec<Event> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| lock(shard).close()).collect()
    }

    fn take_uses(&self) -> HashMap<KeyHash, Day> {
        mem::take(&mut lock(&self.uses).pending)
    }

    fn is_empty(&self) -> bool {
        lock(&self.uses).pending.is_empty()
            && self.shards.iter().all(|shard| lock(shard).is_empty())
    }

    fn drop_events(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        self.dropped_total.increment(count);
    }
}

impl std::fmt::Debug for AuditQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditQueue").finish_non_exhaustive()
    }
}
