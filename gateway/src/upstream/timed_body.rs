//! The body of an answer on its way to the caller: it has to go on moving, and to come to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::{self, Incoming};

/// What GHL or the broker answers, as long as it may take.
#[derive(Debug)]
pub(crate) struct TimedBody {
    body: Incoming,
    idle: Duration,
    ends_at: Instant,
    /// There is one only while the other side is waited for: most answers come in one piece.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Why an answer was broken off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the answer stood still")]
    Stalled,
    #[error("the answer broke off")]
    Broken(#[from] pool::Error),
}

impl TimedBody {
    /// Broken off when nothing came for `idle`, or when it is not over at `ends_at`.
    pub(crate) fn new(body: Incoming, idle: Duration, ends_at: Instant) -> Self {
        Self {
            body,
            idle,
            ends_at,
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
        let patience = this.patience.get_or_insert_with(|| {
            let until = (Instant::now() + this.idle).min(this.ends_at);
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
