//! The body of a request, read from its connection by whoever has it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// `None` once it was given back: at the end of the body, or when it has failed.
    rest: Option<Rest>,
    back: Arc<Back>,
}

/// Where the connection finds what is left of a request, once nobody reads its body any more.
#[derive(Debug, Default)]
pub(super) struct Back {
    state: Mutex<State>,
    is_answered: AtomicBool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Away,
    Awaited(Waker),
    Here(Rest),
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
                match self.inlet.stream.as_ref().try_write(CONTINUE) {
                    Ok(written) if written == CONTINUE.len() => {}
                    Ok(_) => return Poll::Ready(Some(Err(Error::Closed))),
                    // Answers that it does not read are in the way. Who waits in vain sends at last.
                    Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                    Err(reason) => return Poll::Ready(Some(Err(reason.into()))),
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

    fn give_back(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.back.put(rest);
        }
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
        // Within an answer it would be a part of that.
        rest.expects_continue &= !this.back.is_answered.load(Ordering::Relaxed);
        let data = ready!(rest.poll_data(context));
        if rest.framing.is_over() || matches!(data, Some(Err(_))) {
            this.give_back();
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
        self.give_back();
    }
}

impl Back {
    /// The answer begins.
    pub(super) fn note_answer(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    fn put(&self, rest: Rest) {
        let before = std::mem::replace(&mut *self.locked(), State::Here(rest));
        if let State::Awaited(waker) = before {
            waker.wake();
        }
    }

    /// What is left of the request, once.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Rest> {
        let mut state = self.locked();
        match std::mem::take(&mut *state) {
            State::Here(rest) => Poll::Ready(rest),
            State::Away | State::Awaited(_) => {
                *state = State::Awaited(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
