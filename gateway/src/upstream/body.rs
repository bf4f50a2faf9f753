//! Request bodies on their way to an upstream. Small ones are held in memory, others are streamed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, timeout};

/// Why a caller's body cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("The body broke off")]
    Broke,
    #[error("The body did not arrive in time")]
    Stalled,
}

/// The whole body, if it is no longer than `limit` bytes and arrives in time.
pub(crate) async fn read(body: Body, limit: u64, patience: Duration) -> Result<Bytes, BodyError> {
    let at_most = usize::try_from(limit).unwrap_or(usize::MAX);
    let reading = Limited::new(body, at_most).collect();
    match timeout(patience, reading).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Ok(Err(_)) => Err(BodyError::Broke),
        Err(_) => Err(BodyError::Stalled),
    }
}

/// A body as it is sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Held(Bytes),
    Stream {
        body: Body,
        left: u64,
        limit: u64,
        progress: Arc<Progress>,
    },
}

/// The failure of a body while it was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyStreamError {
    #[error("it is longer than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the caller broke it off")]
    Caller(#[source] axum::Error),
}

impl Outgoing {
    pub(crate) fn empty() -> Self {
        Self::Held(Bytes::new())
    }

    /// A stream that breaks off after `limit` bytes.
    pub(crate) fn stream(body: Body, limit: u64) -> Self {
        Self::Stream {
            body,
            left: limit,
            limit,
            progress: Arc::new(Progress::start()),
        }
    }

    /// The whole body, if it is held and can be sent again.
    pub(crate) fn held(&self) -> Option<Bytes> {
        match self {
            Self::Held(bytes) => Some(bytes.clone()),
            Self::Stream { .. } => None,
        }
    }

    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Held(_) => None,
            Self::Stream { progress, .. } => Some(Arc::clone(progress)),
        }
    }
}

/// A body that comes slower than this takes a permit for nothing, in bytes per second.
const MIN_RATE: u64 = 1024;

/// For how long a body may come slower, in seconds. A caller may begin slowly.
const SLOW_SECONDS: u64 = 10;

/// The progress of a streamed body. While it makes progress, no timeout applies.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    moved_after_ms: AtomicU64,
    bytes: AtomicU64,
    /// When it was first asked for. The call may have waited for long before.
    read_since: OnceLock<Instant>,
    is_waiting_for_caller: AtomicBool,
    fault: OnceLock<Fault>,
}

/// The failure of a body, if there is one. Errors of an HTTP/2 connection do not contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLarge { limit: u64 },
    Broke,
}

impl Progress {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            moved_after_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            read_since: OnceLock::new(),
            is_waiting_for_caller: AtomicBool::new(false),
            fault: OnceLock::new(),
        }
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    pub(crate) fn last_moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved_after_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn is_waiting_for_caller(&self) -> bool {
        self.is_waiting_for_caller.load(Ordering::Relaxed)
    }

    /// Whether its caller sends so slowly that it must be taken for stalled.
    pub(crate) fn drips(&self) -> bool {
        let reading = self.read_since.get().map(Instant::elapsed);
        let expected = reading
            .unwrap_or_default()
            .as_secs()
            .saturating_sub(SLOW_SECONDS)
            * MIN_RATE;
        self.is_waiting_for_caller() && self.bytes.load(Ordering::Relaxed) < expected
    }

    fn note(&self, has_moved: bool) {
        self.read_since.get_or_init(Instant::now);
        self.is_waiting_for_caller
            .store(!has_moved, Ordering::Relaxed);
        if has_moved {
            let after = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved_after_ms.store(after, Ordering::Relaxed);
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyStreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStreamError>>> {
        match self.get_mut() {
            Self::Held(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Held(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream {
                body,
                left,
                limit,
                progress,
            } => {
                let polled = Pin::new(body).poll_frame(context);
                progress.note(polled.is_ready());
                let frame = match ready!(polled) {
                    Some(Ok(frame)) => frame,
                    Some(Err(reason)) => {
                        let _ = progress.fault.set(Fault::Broke);
                        return Poll::Ready(Some(Err(BodyStreamError::Caller(reason))));
                    }
                    None => return Poll::Ready(None),
                };
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                progress.bytes.fetch_add(length, Ordering::Relaxed);
                match left.checked_sub(length) {
                    Some(rest) => {
                        *left = rest;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let limit = *limit;
                        let _ = progress.fault.set(Fault::TooLarge { limit });
                        Poll::Ready(Some(Err(BodyStreamError::TooLarge { limit })))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(bytes) => bytes.is_empty(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}

/// The body whose `beginning` was read before.
pub(crate) fn with_beginning(beginning: Bytes, rest: Body) -> Body {
    if beginning.is_empty() {
        return rest;
    }
    Body::new(WithBeginning { beginning, rest })
}

/// A body that is sent after bytes that were read from it.
#[derive(Debug)]
struct WithBeginning {
    beginning: Bytes,
    rest: Body,
}

impl http_body::Body for WithBeginning {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.beginning.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(context);
        }
        let beginning = std::mem::take(&mut self.beginning);
        Poll::Ready(Some(Ok(Frame::data(beginning))))
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (read, rest) = (self.beginning.len() as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

/// A body with a guard that is dropped with it.
#[derive(Debug)]
pub(crate) struct WithGuard<B, G> {
    body: B,
    _guard: G,
}

impl<B, G> WithGuard<B, G> {
    pub(crate) fn new(body: B, guard: G) -> Self {
        Self {
            body,
            _guard: guard,
        }
    }

    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: http_body::Body + Unpin, G: Unpin> http_body::Body for WithGuard<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
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
    use futures_util::stream;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn chunks(chunks: &'static [&'static str]) -> Body {
        let chunks = chunks.iter().map(|chunk| Ok::<_, axum::Error>(*chunk));
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn streamed_body_fails_beyond_its_limit() {
        let within = Outgoing::stream(chunks(&["12345", "678"]), 8);
        assert_eq!(&within.collect().await.unwrap().to_bytes()[..], b"12345678");
        let above = Outgoing::stream(chunks(&["12345", "6789"]), 8);
        let error = above.collect().await.unwrap_err();
        assert!(matches!(error, BodyStreamError::TooLarge { limit: 8 }));
    }

    #[tokio::test(start_paused = true)]
    async fn reading_a_body_enforces_timeout_and_limit() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        let outcome = read(never, 10, TIMEOUT).await;
        assert!(matches!(outcome, Err(BodyError::Stalled)));
        let long = read(chunks(&["123", "456"]), 5, TIMEOUT).await;
        assert!(matches!(long, Err(BodyError::TooLarge { limit: 5 })));
    }
}
