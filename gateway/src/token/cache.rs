//! A read-through cache that is told when what it holds is old.
//!
//! An entry answers from memory while announcements arrive and it is younger than its maximum
//! age. Whatever it may not answer from memory is read again, once for all who ask at the same
//! time. While the store does not answer, what was held goes on serving: the caller of the cache
//! knows whether it is still good for anything.
//!
//! The race to lose here: a read takes the old value from the store, the announcement of the new
//! one arrives, and only then the read puts the old one into the cache, where nobody would ever
//! call it old. So a read gets a ticket before it begins, an announcement takes that ticket away,
//! and without its ticket a read's value goes to those who waited for it and nowhere else. The
//! loss of the announcements themselves does the same to all at once, by a new epoch.

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

/// How long an unused entry is kept: an entry in use is read again far more often.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long a read may keep those waiting who could be served with what is held.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often a store that did not answer is asked again on behalf of those who can do without.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// A power of two. One lock would do for a few cores, but not for tidying up a million entries
/// while it is held.
const SHARDS: usize = 16;

/// Callers can invent names that stand for nothing, so the number of remembered ones is limited.
const MAX_ABSENT_PER_SHARD: usize = 1024;

/// Where the values come from.
pub(crate) trait Source: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// How long a value is used without being read again, if no announcement calls it old.
    const MAX_AGE: Duration;
    /// The same for the knowledge that there is no value.
    const MAX_AGE_ABSENT: Duration = Duration::from_secs(1);

    fn read(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Self::Value>, Unavailable>> + Send;

    /// The value to hold from now on: `new` was just read, `held` before.
    fn choose(&self, new: Self::Value, _held: &Self::Value) -> Self::Value {
        new
    }
}

/// The store gave no answer, and nothing is held that could stand in.
#[derive(Clone, Debug, thiserror::Error)]
#[error("The token store cannot answer")]
pub(crate) struct Unavailable {
    /// The store itself is away, not one record in it unreadable.
    pub(crate) is_away: bool,
    #[source]
    pub(crate) source: Arc<dyn std::error::Error + Send + Sync>,
}

/// How lookups were answered.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) hit: Counter,
    pub(crate) miss: Counter,
    /// From what was held, as the store did not answer.
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

/// Clones share what they hold.
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
    is_away: AtomicBool,
    next_probe: Mutex<Option<Instant>>,
}

struct Shard<S: Source> {
    slots: HashMap<S::Key, Slot<S::Value>>,
    absent: usize,
}

struct Slot<V> {
    value: Option<V>,
    /// When the read began that brought it.
    read_at: Instant,
    epoch: u64,
    is_old: bool,
}

/// A read under way, alive as long as somebody waits for it.
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
    /// An empty cache that takes nothing from memory until it is told that announcements arrive.
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
                is_away: AtomicBool::new(false),
                next_probe: Mutex::default(),
            }),
        }
    }

    /// What memory alone may answer.
    pub(crate) fn peek<Q>(&self, key: &Q) -> Option<Option<S::Value>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.peek(key)
    }

    /// The value, from memory or from the store; `None` where there is none.
    pub(crate) async fn get(&self, key: &S::Key) -> Outcome<S::Value> {
        match self.inner.peek(key) {
            Some(found) => Ok(found),
            None => self.read(key).await,
        }
    }

    /// Notes that what is held may be old. It is read again before it is used again, and what is
    /// being read at this moment is not kept.
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

    /// Announcements may have been missed, and more may be.
    pub(crate) fn lost(&self) {
        self.inner.is_coherent.store(false, Ordering::Release);
        self.inner.begin_epoch();
    }

    /// Announcements arrive, from some moment before this one.
    pub(crate) fn restored(&self) {
        if !self.inner.is_coherent.load(Ordering::Acquire) {
            self.inner.begin_epoch();
            self.inner.is_away.store(false, Ordering::Relaxed);
            self.inner.is_coherent.store(true, Ordering::Release);
        }
    }

    /// Forgets what nobody has used for long.
    pub(crate) fn sweep(&self) {
        // While the store is away nothing is read, used or not.
        if self.inner.is_away.load(Ordering::Relaxed) {
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
        if inner.is_away.load(Ordering::Relaxed) {
            if inner.may_probe() {
                drop(tokio::spawn(inner.flight(key)));
            }
            inner.counters.stale.increment(1);
            return Ok(Some(held));
        }
        let reading = inner.flight(key);
        match timeout(PATIENCE, reading.clone()).await {
            Ok(Ok(value)) => {
                inner.counters.miss.increment(1);
                Ok(value)
            }
            Ok(Err(_)) => {
                inner.counters.stale.increment(1);
                Ok(Some(held))
            }
            Err(_) => {
                inner.is_away.store(true, Ordering::Relaxed);
                // A store may only be slow, and this value's turn to be asked for may not come soon.
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
        let is_good = !slot.is_old
            && slot.epoch == self.epoch.load(Ordering::Acquire)
            && slot.read_at.elapsed() < max_age;
        is_good.then(|| {
            self.counters.hit.increment(1);
            slot.value.clone()
        })
    }

    fn held(&self, key: &S::Key) -> Option<S::Value> {
        read(self.shard(key)).slots.get(key)?.value.clone()
    }

    /// Joins the read under way, or begins one.
    fn flight(self: &Arc<Self>, key: &S::Key) -> Shared<Reading<S::Value>> {
        let mut flights = lock(&self.flights);
        let under_way = flights.get(key).and_then(|flight| flight.reading.upgrade());
        if let Some(reading) = under_way {
            return reading;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let reading = Arc::clone(self).fly(key.clone(), ticket).boxed().shared();
        if let Some(weak) = reading.downgrade() {
            let flight = Flight {
                ticket,
                reading: weak,
            };
            flights.insert(key.clone(), flight);
        }
        reading
    }

    fn fly(
        self: Arc<Self>,
        key: S::Key,
        ticket: u64,
    ) -> impl Future<Output = Outcome<S::Value>> + Send {
        let epoch = self.epoch.load(Ordering::Acquire);
        let read_at = Instant::now();
        async move {
            let outcome = self.source.read(&key).await;
            self.land(&key, ticket, epoch, read_at, outcome)
        }
    }

    /// Keeps what was read, if it may be kept, and says what those who waited for it get.
    fn land(
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
            if error.is_away {
                self.is_away.store(true, Ordering::Relaxed);
            }
        })?;
        self.is_away.store(false, Ordering::Relaxed);
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

    /// Makes everything that is held, or is being read, something to read again.
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

// A panic while one of these locks was held left nothing half done that matters to a cache.

#[cfg(test)]
mod tests;
