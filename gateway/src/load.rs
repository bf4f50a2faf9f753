//! More calls at GHL than a gateway can serve: those beyond a bound wait a moment for a place, and are
//! then told to come again, so that the others are served as fast as ever.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// How long a call waits for a place. A refusal costs nearly as much as an answer: callers who are
/// refused at once, and ask again at once, would keep a gateway busy with nothing else.
const PATIENCE: Duration = Duration::from_millis(500);

/// The places of the calls that are being served. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Load(Arc<Semaphore>);

/// The place of one request.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Load {
    pub(crate) fn at_most(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// # Errors
    /// When no place gets free in time.
    pub(crate) async fn enter(&self) -> Result<Place, Error> {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            return Ok(Place(permit));
        }
        // Rare, so it shall not make the future of every request larger.
        let waiting = Box::pin(timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()));
        match waiting.await {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) | Err(_) => Err(Error::Overloaded),
        }
    }
}

impl Place {
    /// Taken until the caller has all of the answer: what of it is under way takes memory.
    pub(crate) fn until_the_end_of(self, response: Response) -> Response {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(Placed { body, _place: self }))
    }
}

struct Placed {
    body: Body,
    _place: Place,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_request_is_over() {
        let load = Load::at_most(2);
        let first = load.enter().await.unwrap();
        let _second = load.enter().await.unwrap();
        assert!(load.enter().await.is_err());
        drop(first);
        assert!(load.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_place_and_nobody_waits_for_long() {
        let load = Load::at_most(1);
        let first = load.enter().await.unwrap();
        let begun = Instant::now();
        let leave = async {
            sleep(PATIENCE / 2).await;
            drop(first);
        };
        let (next, ()) = tokio::join!(load.enter(), leave);
        assert_eq!(begun.elapsed(), PATIENCE / 2);
        let _next = next.unwrap();
        assert!(load.enter().await.is_err());
        assert!(begun.elapsed() < PATIENCE * 2);
    }
}
