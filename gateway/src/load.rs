//! More calls at GHL than a gateway can serve: those beyond a bound are told so at once, so that the
//! others are served as fast as ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};

use crate::error::Error;

/// Counts the calls that are being served. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    now: Arc<AtomicUsize>,
    most: usize,
}

/// The place of one request.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn at_most(most: usize) -> Self {
        Self {
            now: Arc::default(),
            most,
        }
    }

    /// # Errors
    /// When there are too many already.
    pub(crate) fn enter(&self) -> Result<Place, Error> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.now));
        if before < self.most {
            Ok(place)
        } else {
            Err(Error::Overloaded)
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

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_is_over() {
        let load = Load::at_most(2);
        let first = load.enter().unwrap();
        let _second = load.enter().unwrap();
        for _ in 0..10 {
            assert!(load.enter().is_err());
        }
        drop(first);
        assert!(load.enter().is_ok());
    }
}
