//! A read-through cache whose entries are invalidated by announcements.
//!
//! An entry is served from memory while announcements arrive and it is younger than its maximum age. Otherwise it
//! is read again, once for all concurrent lookups. While the store does not answer, the cached value is served. The
//! user of the cache decides whether that value is still usable.
//!
//! One race has to be prevented: a read takes the old value from the store, the announcement of the new value
//! arrives, and then the read caches the old value, which no later announcement would invalidate. Therefore each
//! read gets a ticket before it begins, and an announcement revokes that ticket. A read without its ticket returns
//! its value to its waiters, but does not cache it. If announcements are lost, a new epoch invalidates all entries
//! and reads in the same way.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use metrics::Counter;
use service::locks::{lock, read, write};
use tokio::time::{Instant, timeout};

/// How long an unused entry is kept. An entry in use is read again far more often.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long a lookup waits for a read before it is served the cached value.
const READ_TIMEOUT: Duration = Duration::from_millis(250);

/// How often a store that did not answer is probed by lookups that are served a cached value.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// A power of two. One lock would be enough for a few cores, but a sweep of a million entries would hold it too long.
const SHARDS: usize = 16;

/// Callers can send any number of unknown names, so the number of cached absences is bounded.
const MAX_ABSENT_PER_SHARD: usize = 1024;

/// Where the values come from.
pub(crate) trait Source: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// How long a value is used without being read again, if no announcement invalidates it.
    const MAX_AGE: Duration;
    /// The same for the absence of a value.
    const MAX_AGE_ABSENT: Duration = Duration::from_secs(1);

    fn read(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Self::Value>, Unavailable>> + Send;

    /// Chooses the value to cache. `new` was just read, `held` is cached.
    fn choose(&self, new: Self::Value, _held: &Self::Value) -> Self::Value {
        new
    }
}

/// The store did not answer, and no value is cached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("The token store cannot answer")]
pub(crate) struct Unavailable {
    /// The store itself is down. False if a single record is unreadable.
    pub(crate) is_store_down: bool,
    #[source]
    pub(crate) source: Arc<dyn std::error::Error + Send + Sync>,
}

/// How lookups were answered.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) hit: Counter,
    pub(crate) miss: Counter,
    /// Served from the cache because the store did not answer.
    pub(crate) stale: Counter,
}

impl Counters {
    pub(crate) fn none() -> Self {
        Self {
            hit: Counter::noop(),
            miss: Counter::noop(),
            stale: Counter::noop(),
        }
    }
}

/// A cache. Clones share it.
pub(crate) struct Cache<S: Source> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: Source> {
    source: S,
    counters: Counters,
    hasher: RandomState,
    shards: [RwLock<Shard<S>>; SHARDS],
    /// Taken before a shard's lock, never while one is held.
    flights: Mutex<HashMap<S::Key, Flight<S::Value>>>,
    tickets: AtomicU64,
    epoch: AtomicU64,
    /// Announcements arrive.
    is_coherent: AtomicBool,
    /// The last read failed.
    is_store_down: AtomicBool,
    next_probe: Mutex<Option<Instant>>,
}

struct Shard<S: Source> {
    slots: HashMap<S::Key, Slot<S::Value>>,
    absent: usize,
}

struct Slot<V> {
    value: Option<V>,
    /// When the read of this value began.
    read_at: Instant,
    epoch: u64,
    is_old: bool,
}

/// A read in flight. It lives while at least one lookup waits for it.
struct Flight<V> {
    ticket: u64,
    reading: WeakShared<Reading<V>>,
}

type Reading<V> = BoxFuture<'static, Outcome<V>>;
type Outcome<V> = Result<Option<V>, Unavailable>;

impl<S: Source> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: Source> Cache<S> {
    /// An empty cache. It serves nothing from memory until [`restored`](Self::restored) is called.
    pub(crate) fn new(source: S, counters: Counters) -> Self {
        let shards = std::array::from_fn(|_| {
            RwLock::new(Shard {
                slots: HashMap::new(),
                absent: 0,
            })
        });
        Self {
            inner: Arc::new(Inner {
                source,
                counters,
                hasher: RandomState::new(),
                shards,
                flights: Mutex::default(),
                tickets: AtomicU64::new(0),
                epoch: AtomicU64::new(0),
                is_coherent: AtomicBool::new(false),
                is_store_down: AtomicBool::new(false),
                next_probe: Mutex::default(),
            }),
        }
    }

    /// The value, if it can be served from memory.
    pub(crate) fn peek<Q>(&self, key: &Q) -> Option<Option<S::Value>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.peek(key)
    }

    /// The value, from memory or from the store. `None` if there is none.
    pub(crate) async fn get(&self, key: &S::Key) -> Outcome<S::Value> {
        match self.inner.peek(key) {
            Some(found) => Ok(found),
            None => self.read(key).await,
        }
    }

    /// Notes that the cached value may be old. It is read again before its next use. A read that is in flight now
    /// is not cached.
    pub(crate) fn invalidate(&self, key: &S::Key, is_old: impl FnOnce(&S::Value) -> bool) {
        let mut flights = lock(&self.inner.flights);
        flights.remove(key);
        let mut shard = write(self.inner.shard(key));
        if let Some(slot) = shard.slots.get_mut(key)
            && slot.value.as_ref().is_none_or(is_old)
        {
            slot.is_old = true;
        }
    }

    /// Announcements may have been missed, and further ones may be.
    pub(crate) fn lost(&self) {
        self.inner.is_coherent.store(false, Ordering::Release);
        self.inner.begin_epoch();
    }

    /// Announcements arrive again, since some time before this call.
    pub(crate) fn restored(&self) {
        if !self.inner.is_coherent.load(Ordering::Acquire) {
            self.inner.begin_epoch();
            self.inner.is_store_down.store(false, Ordering::Relaxed);
            self.inner.is_coherent.store(true, Ordering::Release);
        }
    }

    /// Evicts entries that were not used for long.
    pub(crate) fn sweep(&self) {
        // While the store is down nothing is read, so unused entries look like used ones.
        if self.inner.is_store_down.load(Ordering::Relaxed) {
            return;
        }
        lock(&self.inner.flights).retain(|_, flight| flight.reading.upgrade().is_some());
        for shard in &self.inner.shards {
            let mut shard = write(shard);
            shard.slots.retain(|_, slot| slot.read_at.elapsed() < IDLE);
        }
    }

    async fn read(&self, key: &S::Key) -> Outcome<S::Value> {
        let inner = &self.inner;
        let Some(held) = inner.held(key) else {
            inner.counters.miss.increment(1);
            return inner.flight(key).await;
        };
        if inner.is_store_down.load(Ordering::Relaxed) {
            if inner.may_probe() {
                drop(tokio::spawn(inner.flight(key)));
            }
            inner.counters.stale.increment(1);
            return Ok(Some(held));
        }
        let reading = inner.flight(key);
        match timeout(READ_TIMEOUT, reading.clone()).await {
            Ok(Ok(value)) => {
                inner.counters.miss.increment(1);
                Ok(value)
            }
            Ok(Err(_)) => {
                inner.counters.stale.increment(1);
                Ok(Some(held))
            }
            Err(_) => {
                inner.is_store_down.store(true, Ordering::Relaxed);
                // The store may only be slow. Without this read, the value might not be read again soon.
                drop(tokio::spawn(reading));
                inner.counters.stale.increment(1);
                Ok(Some(held))
            }
        }
    }
}

impl<S: Source> Inner<S> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &RwLock<Shard<S>> {
        let hash = self.hasher.hash_one(key).to_ne_bytes();
        &self.shards[usize::from(hash[0]) % SHARDS]
    }

    fn peek<Q>(&self, key: &Q) -> Option<Option<S::Value>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.is_coherent.load(Ordering::Acquire) {
            return None;
        }
        let shard = read(self.shard(key));
        let slot = shard.slots.get(key)?;
        let max_age = match slot.value {
            Some(_) => S::MAX_AGE,
            None => S::MAX_AGE_ABSENT,
        };
        let is_usable = !slot.is_old
            && slot.epoch == self.epoch.load(Ordering::Acquire)
            && slot.read_at.elapsed() < max_age;
        is_usable.then(|| {
            self.counters.hit.increment(1);
            slot.value.clone()
        })
    }

    fn held(&self, key: &S::Key) -> Option<S::Value> {
        read(self.shard(key)).slots.get(key)?.value.clone()
    }

    /// Joins the read in flight, or begins one.
    fn flight(self: &Arc<Self>, key: &S::Key) -> Shared<Reading<S::Value>> {
        let mut flights = lock(&self.flights);
        let in_flight = flights.get(key).and_then(|flight| flight.reading.upgrade());
        if let Some(reading) = in_flight {
            return reading;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let reading = Arc::clone(self)
            .begin_read(key.clone(), ticket)
            .boxed()
            .shared();
        if let Some(weak) = reading.downgrade() {
            let flight = Flight {
                ticket,
                reading: weak,
            };
            flights.insert(key.clone(), flight);
        }
        reading
    }

    fn begin_read(
        self: Arc<Self>,
        key: S::Key,
        ticket: u64,
    ) -> impl Future<Output = Outcome<S::Value>> + Send {
        let epoch = self.epoch.load(Ordering::Acquire);
        let read_at = Instant::now();
        async move {
            let outcome = self.source.read(&key).await;
            self.finish_read(&key, ticket, epoch, read_at, outcome)
        }
    }

    /// Caches the value that was read, if its ticket is still valid. Returns the value for the waiters.
    fn finish_read(
        &self,
        key: &S::Key,
        ticket: u64,
        epoch: u64,
        read_at: Instant,
        outcome: Outcome<S::Value>,
    ) -> Outcome<S::Value> {
        let mut flights = lock(&self.flights);
        let has_ticket = flights.get(key).is_some_and(|it| it.ticket == ticket);
        if has_ticket {
            flights.remove(key);
        }
        let mut value = outcome.inspect_err(|error| {
            if error.is_store_down {
                self.is_store_down.store(true, Ordering::Relaxed);
            }
        })?;
        self.is_store_down.store(false, Ordering::Relaxed);
        let mut shard = write(self.shard(key));
        let held = shard.slots.get(key).and_then(|slot| slot.value.as_ref());
        if let Some(held) = held {
            value = value.map(|new| self.source.choose(new, held));
        }
        if has_ticket {
            let slot = Slot {
                value: value.clone(),
                read_at,
                epoch,
                is_old: false,
            };
            shard.keep(key.clone(), slot);
        }
        Ok(value)
    }

    /// Invalidates all entries, and all reads in flight.
    fn begin_epoch(&self) {
        let mut flights = lock(&self.flights);
        flights.clear();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn may_probe(&self) -> bool {
        let now = Instant::now();
        let mut next = lock(&self.next_probe);
        let may = next.is_none_or(|next| now >= next);
        if may {
            *next = Some(now + PROBE_EVERY);
        }
        may
    }
}

impl<S: Source> Shard<S> {
    fn keep(&mut self, key: S::Key, slot: Slot<S::Value>) {
        if slot.value.is_none() {
            if self.absent >= MAX_ABSENT_PER_SHARD {
                self.slots.retain(|_, slot| slot.value.is_some());
                self.absent = 0;
            }
            self.absent += 1;
        }
        self.slots.insert(key, slot);
    }
}

// Poisoned locks are ignored. A panic under one of them leaves no state that could harm a cache.

#[cfg(test)]
mod tests;
