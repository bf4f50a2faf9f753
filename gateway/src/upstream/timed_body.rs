//! The body of a response on its way to the caller, with an idle timeout and a total timeout.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::{self, Incoming};

/// The body of a response of GHL or the broker, with its timeouts.
#[derive(Debug)]
pub(crate) struct TimedBody {
    body: Incoming,
    /// The longest pause, and the end. `None` for a stream without an end.
    limits: Option<(Duration, Instant)>,
    /// Set only while the upstream is waited for. Most responses arrive in one piece.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Why a response was aborted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the response stalled")]
    Stalled,
    #[error("the response was cut off")]
    Broken(#[from] pool::Error),
}

impl TimedBody {
    /// Fails if nothing arrives for `idle`, or if the body has not ended at `ends_at`.
    pub(crate) fn new(body: Incoming, idle: Duration, ends_at: Instant) -> Self {
        Self {
            body,
            limits: Some((idle, ends_at)),
            patience: None,
        }
    }

    /// For a stream of events, which may pause, and go on, for as long as both ends want.
    pub(crate) fn endless(body: Incoming) -> Self {
        Self {
            body,
            limits: None,
            patience: None,
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.patience = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Interrupted::Broken)));
        }
        let Some((idle, ends_at)) = this.limits else {
            return Poll::Pending;
        };
        let patience = this.patience.get_or_insert_with(|| {
            let until = (Instant::now() + idle).min(ends_at);
            Box::pin(sleep_until(until))
        });
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Some(Err(Interrupted::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
