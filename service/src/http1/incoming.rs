//! The body of a request, read from its connection by whoever has it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::inlet::Inlet;
use super::{Framing, Malformed};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is left of a request.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) inlet: Inlet,
    pub(super) framing: Framing,
    /// The caller waits to be told that its body is wanted.
    pub(super) expects_continue: bool,
}

#[derive(Debug)]
pub(super) struct Incoming {
    /// `None` once it was given back, at the end of the body, or has failed.
    rest: Option<Rest>,
    back: Arc<Back>,
}

/// Where the connection finds what is left of a request, once nobody reads its body any more.
#[derive(Debug, Default)]
pub(super) struct Back(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Away,
    Awaited(Waker),
    /// `None`: nothing more can be read.
    Here(Option<Rest>),
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the connection was closed before the end of the body")]
    Closed,
    #[error("that is no body in HTTP/1.1: {0}")]
    Malformed(#[from] Malformed),
}

impl Rest {
    /// The next piece of the body; `None` at its end.
    pub(super) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if let Some(data) = self.framing.next(&mut self.inlet.read)? {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.framing.is_over() {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut self.expects_continue) {
                // There is room: nothing else was sent since the caller sent its request.
                let stream = self.inlet.stream.as_ref();
                if stream.try_write(CONTINUE)? < CONTINUE.len() {
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
            }
            if ready!(self.inlet.poll_read(context))? == 0 {
                return Poll::Ready(Some(Err(Error::Closed)));
            }
        }
    }

    /// Throws away what was read of the body already.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        while self.framing.next(&mut self.inlet.read)?.is_some() {}
        Ok(())
    }
}

impl Incoming {
    pub(super) fn new(rest: Rest) -> (Self, Arc<Back>) {
        let back = Arc::new(Back::default());
        let body = Self {
            rest: Some(rest),
            back: Arc::clone(&back),
        };
        (body, back)
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(None);
        };
        let data = ready!(rest.poll_data(context));
        if matches!(data, Some(Err(_))) {
            this.rest = None;
            this.back.put(None);
        } else if rest.framing.is_over() {
            this.back.put(this.rest.take());
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) => rest.framing.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.back.put(Some(rest));
        }
    }
}

impl Back {
    fn put(&self, rest: Option<Rest>) {
        let before = std::mem::replace(&mut *self.locked(), State::Here(rest));
        if let State::Awaited(waker) = before {
            waker.wake();
        }
    }

    /// What is left of the request, once; `None`: nothing more can be read.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Rest>> {
        let mut state = self.locked();
        match &mut *state {
            State::Here(rest) => Poll::Ready(rest.take()),
            State::Awaited(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            State::Away => {
                *state = State::Awaited(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
