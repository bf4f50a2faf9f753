//! Limits concurrent calls to GHL. Calls beyond the limit wait a few seconds for a permit, and then get 503. So an
//! overload does not slow down the calls that are being served.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::upstream::body::WithGuard;

/// How long a call waits for a permit. A refusal costs as much as a response, so callers that are refused early and
/// retry early keep a gateway busy with refusals. With half a second and 8,192 callers, a twelfth of the throughput
/// was left (`evergreen-tools bench overload`).
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How much memory all waiting calls may take together, in KiB.
const WAITING_KIB: usize = 256 * 1024;

/// What a waiting call takes besides its body: a connection, its headers, and its task.
const CALL_KIB: usize = 8;

/// Permits for the calls that are being served, and memory for those that wait. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Concurrency {
    permits: Arc<Semaphore>,
    queue_memory: Arc<Semaphore>,
}

/// All permits or all memory for waiting calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The gateway is overloaded")]
pub(crate) struct Overloaded;

/// Allows one request to be served.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// Reserves memory for one waiting call.
#[derive(Debug)]
pub(crate) struct QueueMemoryPermit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Concurrency {
    pub(crate) fn with_limit(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            queue_memory: Arc::new(Semaphore::new(WAITING_KIB)),
        }
    }

    /// A permit, if one is free now and no call waits.
    pub(crate) fn try_acquire(&self) -> Option<ConcurrencyPermit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.ok().map(ConcurrencyPermit)
    }

    /// Reserves memory for a waiting call whose body has this many `bytes`.
    ///
    /// # Errors
    /// When waiting calls already hold all memory.
    pub(crate) fn reserve_memory(&self, bytes: usize) -> Result<QueueMemoryPermit, Overloaded> {
        let kib = u32::try_from(CALL_KIB + bytes / 1024).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.queue_memory).try_acquire_many_owned(kib);
        memory.map(QueueMemoryPermit).map_err(|_| Overloaded)
    }

    /// Waits for a permit, in order of arrival, at most until `deadline`.
    ///
    /// # Errors
    /// When no permit becomes free in time.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<ConcurrencyPermit, Overloaded> {
        let deadline = deadline.min(Instant::now() + MAX_WAIT);
        match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(ConcurrencyPermit(permit)),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }
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
    use tokio::time::sleep;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn dropped_permit_is_available_again() {
        let concurrency = Concurrency::with_limit(2);
        let first = concurrency.try_acquire().unwrap();
        let _second = concurrency.try_acquire().unwrap();
        assert!(concurrency.try_acquire().is_none());
        drop(first);
        assert!(concurrency.try_acquire().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_call_gets_the_next_permit_or_times_out() {
        let concurrency = Concurrency::with_limit(1);
        let first = concurrency.try_acquire().unwrap();
        let begun = Instant::now();
        let release = async {
            sleep(MAX_WAIT / 2).await;
            drop(first);
        };
        let (next, ()) = tokio::join!(concurrency.acquire(begun + HOUR), release);
        assert_eq!(begun.elapsed(), MAX_WAIT / 2);
        let _next = next.unwrap();
        for (deadline, waited) in [(HOUR, MAX_WAIT), (MAX_WAIT / 4, MAX_WAIT / 4)] {
            let asked = Instant::now();
            assert!(concurrency.acquire(asked + deadline).await.is_err());
            assert_eq!(asked.elapsed(), waited);
        }
    }
}
