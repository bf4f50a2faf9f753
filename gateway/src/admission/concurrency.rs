//! More calls at GHL than a gateway can serve: those beyond a bound wait a moment for a place, and are
//! then told to come again, so that the others are served as fast as ever.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::upstream::body::Keeping;

/// How long a call waits for a place. A refusal costs as much as an answer: callers who are refused
/// soon, and soon ask again, keep a gateway busy with nothing else. 8,192 callers who were given half a
/// second left a twelfth of what it can serve (`evergreen-tools bench overload`).
const PATIENCE: Duration = Duration::from_secs(5);

/// How much memory all calls take that wait, for a place or their turn, in KiB.
const WAITING_KIB: usize = 256 * 1024;

/// What one of them takes beside its body: a connection, its headers, and what waits.
const CALL_KIB: usize = 8;

/// The places of the calls that are being served, and room for those that wait. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Concurrency {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// There is too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The gateway has too much to do")]
pub(crate) struct Overloaded;

/// The place of one request.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// What one call that waits may take.
#[derive(Debug)]
pub(crate) struct QueueMemoryPermit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Concurrency {
    pub(crate) fn at_most(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            waiting: Arc::new(Semaphore::new(WAITING_KIB)),
        }
    }

    /// A place, if there is one now and nobody waits.
    pub(crate) fn try_enter(&self) -> Option<ConcurrencyPermit> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.ok().map(ConcurrencyPermit)
    }

    /// Memory for a call that waits. `bytes`: of its body.
    ///
    /// # Errors
    /// When those that wait already have it all.
    pub(crate) fn wait_with(&self, bytes: usize) -> Result<QueueMemoryPermit, Overloaded> {
        let kib = u32::try_from(CALL_KIB + bytes / 1024).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.waiting).try_acquire_many_owned(kib);
        room.map(QueueMemoryPermit).map_err(|_| Overloaded)
    }

    /// A place, in the order of asking; at `deadline` the wait is over even if it was short.
    ///
    /// # Errors
    /// When no place gets free in time.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<ConcurrencyPermit, Overloaded> {
        let deadline = deadline.min(Instant::now() + PATIENCE);
        match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(ConcurrencyPermit(permit)),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }
}

impl ConcurrencyPermit {
    /// Taken until the caller has all of the answer: what of it is under way takes memory.
    pub(crate) fn until_the_end_of(self, response: Response) -> Response {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(Keeping::new(body, self)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_place_is_free_again_when_its_request_is_over() {
        let load = Concurrency::at_most(2);
        let first = load.try_enter().unwrap();
        let _second = load.try_enter().unwrap();
        assert!(load.try_enter().is_none());
        drop(first);
        assert!(load.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_place_and_nobody_waits_for_long() {
        let load = Concurrency::at_most(1);
        let first = load.try_enter().unwrap();
        let begun = Instant::now();
        let leave = async {
            sleep(PATIENCE / 2).await;
            drop(first);
        };
        let (next, ()) = tokio::join!(load.enter(begun + HOUR), leave);
        assert_eq!(begun.elapsed(), PATIENCE / 2);
        let _next = next.unwrap();
        for (deadline, waited) in [(HOUR, PATIENCE), (PATIENCE / 4, PATIENCE / 4)] {
            let asked = Instant::now();
            assert!(load.enter(asked + deadline).await.is_err());
            assert_eq!(asked.elapsed(), waited);
        }
    }
}
