//! Limits concurrent calls to GHL. Calls beyond the limit wait a few seconds for a permit, and then get 503. So an
//! overload does not slow down the calls that are being served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http_body::Body as _;
use service::locks::lock;
use service::permits;
use store::KeyHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::upstream::body::WithGuard;

/// How long a call waits for a permit. A refusal costs as much as a response, so callers that are refused early and
/// retry early keep a gateway busy with refusals. With half a second and 8,192 callers, a twelfth of the throughput
/// was left (`evergreen-tools bench overload`).
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How much memory all waiting calls may take together, in KiB.
const WAITING_KIB: usize = 256 * 1024;

/// The memory of a waiting call besides its body: a connection, its headers, and its task.
const CALL_KIB: usize = 8;

/// Permits for the calls that are being served, and memory for those that wait. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Concurrency {
    permits: Arc<Semaphore>,
    limit: Arc<Mutex<usize>>,
    queue_memory: Arc<Semaphore>,
}

/// Why a call gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overloaded {
    /// All permits or all memory for waiting calls are taken.
    #[error("The gateway is overloaded")]
    Gateway,
    /// The calls of one API key take all that one key may have.
    #[error("This API key has its whole share of the gateway's calls in progress")]
    Key,
}

/// The share of one API key's calls in requests and memory, so that they leave some to others. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    permits: Arc<Semaphore>,
    queue_memory: Arc<Semaphore>,
}

/// The shares of all keys. They outlive the cached records of the keys.
#[derive(Debug)]
pub(crate) struct Shares(Mutex<SharesByKey>);

#[derive(Debug)]
struct SharesByKey {
    size: usize,
    by_key: HashMap<KeyHash, Share>,
}

impl Share {
    /// Whether a call has a part of it.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0.permits) > 1 || Arc::strong_count(&self.0.queue_memory) > 1
    }
}

impl Shares {
    /// `size`: the permits of one key.
    pub(crate) fn new(size: usize) -> Self {
        Self(Mutex::new(SharesByKey {
            size: size.min(Semaphore::MAX_PERMITS),
            by_key: HashMap::new(),
        }))
    }

    /// Changes the permits of each key.
    pub(crate) fn resize(&self, size: usize) {
        let size = size.min(Semaphore::MAX_PERMITS);
        let mut shares = lock(&self.0);
        let before = std::mem::replace(&mut shares.size, size);
        for share in shares.by_key.values() {
            permits::resize(&share.0.permits, before, size);
        }
    }

    /// The share of a key. It keeps its state while a call has a part of it.
    pub(crate) fn of(&self, key: &KeyHash) -> Share {
        let mut shares = lock(&self.0);
        let SharesByKey { size, by_key } = &mut *shares;
        if by_key.len() == by_key.capacity() && !by_key.contains_key(key) {
            by_key.retain(|_, share| Arc::strong_count(&share.0) > 1 || share.is_in_use());
        }
        let share = by_key.entry(*key).or_insert_with(|| {
            Share(Arc::new(Parts {
                permits: Arc::new(Semaphore::new(*size)),
                queue_memory: Arc::new(Semaphore::new(WAITING_KIB / 4)),
            }))
        });
        share.clone()
    }
}

/// Allows one request to be served.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit {
    _permit: OwnedSemaphorePermit,
    /// `None` for a caller without a key.
    _of_share: Option<OwnedSemaphorePermit>,
}

/// Reserves memory for one waiting call.
#[derive(Debug)]
pub(crate) struct QueueMemoryPermit {
    _of_all: OwnedSemaphorePermit,
    _of_share: Option<OwnedSemaphorePermit>,
}

impl Concurrency {
    pub(crate) fn with_limit(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(most)),
            limit: Arc::new(Mutex::new(most)),
            queue_memory: Arc::new(Semaphore::new(WAITING_KIB)),
        }
    }

    /// How many calls have a permit.
    pub(crate) fn in_use(&self) -> usize {
        lock(&self.limit).saturating_sub(self.permits.available_permits())
    }

    /// Changes how many permits there are.
    pub(crate) fn resize(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut limit = lock(&self.limit);
        permits::resize(&self.permits, *limit, most);
        *limit = most;
    }

    /// A permit, if one is free now and no call waits.
    pub(crate) fn try_acquire(&self, share: Option<&Share>) -> Option<ConcurrencyPermit> {
        let of_share = match share {
            Some(share) => Some(Arc::clone(&share.0.permits).try_acquire_owned().ok()?),
            None => None,
        };
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        Some(ConcurrencyPermit {
            _permit: permit.ok()?,
            _of_share: of_share,
        })
    }

    /// Reserves memory for a waiting call whose body has this many `bytes`.
    ///
    /// # Errors
    /// When waiting calls already hold all memory, or those of the same key their share of it.
    pub(crate) fn reserve_memory(
        &self,
        bytes: usize,
        share: Option<&Share>,
    ) -> Result<QueueMemoryPermit, Overloaded> {
        let kib = u32::try_from(CALL_KIB + bytes / 1024).unwrap_or(u32::MAX);
        let take = |memory: &Arc<Semaphore>| Arc::clone(memory).try_acquire_many_owned(kib).ok();
        let of_share = match share {
            Some(share) => Some(take(&share.0.queue_memory).ok_or(Overloaded::Key)?),
            None => None,
        };
        Ok(QueueMemoryPermit {
            _of_all: take(&self.queue_memory).ok_or(Overloaded::Gateway)?,
            _of_share: of_share,
        })
    }

    /// Waits for a permit, in order of arrival, at most until `deadline`.
    ///
    /// # Errors
    /// When no permit becomes free in time.
    pub(crate) async fn acquire(
        &self,
        deadline: Instant,
        share: Option<&Share>,
    ) -> Result<ConcurrencyPermit, Overloaded> {
        let deadline = deadline.min(Instant::now() + MAX_WAIT);
        // First, so that a call that waits for its key's share takes nothing from others.
        let of_share = match share {
            Some(share) => Some(
                acquire(&share.0.permits, deadline)
                    .await
                    .ok_or(Overloaded::Key)?,
            ),
            None => None,
        };
        let permit = acquire(&self.permits, deadline).await;
        Ok(ConcurrencyPermit {
            _permit: permit.ok_or(Overloaded::Gateway)?,
            _of_share: of_share,
        })
    }
}

async fn acquire(permits: &Arc<Semaphore>, deadline: Instant) -> Option<OwnedSemaphorePermit> {
    let acquired = timeout_at(deadline, Arc::clone(permits).acquire_owned()).await;
    acquired.ok()?.ok()
}

impl ConcurrencyPermit {
    /// Holds the permit until the caller has the whole response, since buffered parts of it take memory.
    pub(crate) fn until_the_end_of(self, response: Response) -> Response {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(WithGuard::new(body, self)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn dropped_permit_is_available_again() {
        let concurrency = Concurrency::with_limit(2);
        let first = concurrency.try_acquire(None).unwrap();
        let _second = concurrency.try_acquire(None).unwrap();
        assert!(concurrency.try_acquire(None).is_none());
        drop(first);
        assert!(concurrency.try_acquire(None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_call_gets_the_next_permit_or_times_out() {
        let concurrency = Concurrency::with_limit(1);
        let first = concurrency.try_acquire(None).unwrap();
        let begun = Instant::now();
        let release = async {
            sleep(MAX_WAIT / 2).await;
            drop(first);
        };
        let (next, ()) = tokio::join!(concurrency.acquire(begun + HOUR, None), release);
        assert_eq!(begun.elapsed(), MAX_WAIT / 2);
        let _next = next.unwrap();
        for (deadline, waited) in [(HOUR, MAX_WAIT), (MAX_WAIT / 4, MAX_WAIT / 4)] {
            let asked = Instant::now();
            assert!(concurrency.acquire(asked + deadline, None).await.is_err());
            assert_eq!(asked.elapsed(), waited);
        }
    }

    #[test]
    fn one_key_leaves_queue_memory_to_others() {
        let limits = Concurrency::with_limit(1);
        let shares = Shares::new(1);
        let [one, other] = ["evg_1", "evg_2"].map(|key| shares.of(&KeyHash::of(key)));
        let mebibyte = 1024 * 1024;
        let of_one = || limits.reserve_memory(mebibyte, Some(&one));
        let held: Vec<_> = std::iter::from_fn(|| of_one().ok()).collect();
        assert!((60..64).contains(&held.len()), "{}", held.len());
        assert_eq!(of_one().unwrap_err(), Overloaded::Key);
        assert!(limits.reserve_memory(mebibyte, Some(&other)).is_ok());
        // Its record was read again meanwhile.
        let again = shares.of(&KeyHash::of("evg_1"));
        assert!(limits.reserve_memory(mebibyte, Some(&again)).is_err());
    }

    #[test]
    fn open_streams_take_only_the_share_of_their_key() {
        let limits = Concurrency::with_limit(4);
        let shares = Shares::new(2);
        let [one, other] = ["evg_1", "evg_2"].map(|key| shares.of(&KeyHash::of(key)));
        let open = |share: &Share| {
            let events = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            let permit = limits.try_acquire(Some(share))?;
            Some(permit.until_the_end_of(Response::new(events)))
        };
        let mut streams: Vec<_> = std::iter::from_fn(|| open(&one)).collect();
        assert_eq!(streams.len(), 2);
        assert!(open(&other).is_some());
        // A client that closes a stream can open another one.
        streams.pop();
        assert!(open(&one).is_some());
    }

    #[tokio::test]
    async fn share_of_each_key_changes_its_size() {
        let limits = Concurrency::with_limit(10);
        let shares = Shares::new(1);
        let known = shares.of(&KeyHash::of("evg_1"));
        shares.resize(3);
        for share in [known, shares.of(&KeyHash::of("evg_2"))] {
            let held: Vec<_> = std::iter::from_fn(|| limits.try_acquire(Some(&share))).collect();
            assert_eq!(held.len(), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_leaves_permits_to_others() {
        let limits = Concurrency::with_limit(4);
        let shares = Shares::new(1);
        let [one, other] = ["evg_1", "evg_2"].map(|key| shares.of(&KeyHash::of(key)));
        let first = limits.try_acquire(Some(&one)).unwrap();
        assert!(limits.try_acquire(Some(&one)).is_none());
        let refused = limits.acquire(Instant::now() + HOUR, Some(&one)).await;
        assert_eq!(refused.unwrap_err(), Overloaded::Key);
        assert!(limits.try_acquire(Some(&other)).is_some());
        // Its record was read again meanwhile.
        assert!(
            limits
                .try_acquire(Some(&shares.of(&KeyHash::of("evg_1"))))
                .is_none()
        );
        drop(first);
        assert!(limits.try_acquire(Some(&one)).is_some());
    }
}
