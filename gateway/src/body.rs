//! Request bodies on their way: held in memory where they are small, streamed where they are not.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use service::listen::BUFFER_BYTES;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::headers;

/// Up to this a body is held, so that it can be sent a second time.
const HELD_BYTES: u64 = 64 * 1024;

/// Up to this a JSON body is held, so that it can be looked into.
const PEEKED_BYTES: u64 = 256 * 1024;

/// A caller's body.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Empty, where there is none.
    Held(Bytes),
    Stream(Body),
}

impl Payload {
    /// Takes a small body into memory and leaves a large one, or one of unknown length, where it
    /// is.
    pub(crate) async fn take(
        headers: &HeaderMap,
        body: Body,
        limit: u64,
        patience: Duration,
    ) -> Result<Self, Error> {
        if body.is_end_stream() {
            return Ok(Self::Held(Bytes::new()));
        }
        match body.size_hint().exact() {
            Some(length) if length > limit => Err(Error::TooLarge { limit }),
            Some(length) if length <= HELD_BYTES || length <= peeked(headers) => {
                read(body, limit, patience).await.map(Self::Held)
            }
            Some(_) | None => Ok(Self::Stream(body)),
        }
    }

    /// How much of it is in memory while its call waits, in bytes.
    pub(crate) fn held_bytes(&self, version: Version) -> usize {
        match self {
            Self::Held(body) => body.len(),
            // That much comes before it is asked for.
            Self::Stream(_) if version == Version::HTTP_2 => BUFFER_BYTES,
            Self::Stream(_) => 0,
        }
    }

    /// What of the body can be looked into as JSON; nothing, where it is not that or not held.
    pub(crate) fn json(&self, headers: &HeaderMap) -> &[u8] {
        match self {
            Self::Held(body) if !body.is_empty() && headers::is_json(headers) => body,
            Self::Held(_) | Self::Stream(_) => &[],
        }
    }
}

/// The whole body, if it is no longer than `limit` bytes and arrives in time.
pub(crate) async fn read(body: Body, limit: u64, patience: Duration) -> Result<Bytes, Error> {
    let at_most = usize::try_from(limit).unwrap_or(usize::MAX);
    let reading = Limited::new(body, at_most).collect();
    match timeout(patience, reading).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => Err(Error::TooLarge { limit }),
        Ok(Err(_)) => Err(Error::BodyBroke),
        Err(_) => Err(Error::BodyStalled),
    }
}

fn peeked(headers: &HeaderMap) -> u64 {
    if headers::is_json(headers) {
        PEEKED_BYTES
    } else {
        0
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

/// What went wrong with a body while it was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
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

    /// All of it, where it can be sent again.
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

/// How far a streamed body has come: while it moves, nobody's patience is at an end.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    moved_after_ms: AtomicU64,
    is_waiting_for_caller: AtomicBool,
    fault: OnceLock<Fault>,
}

/// What was wrong with a body, for who cannot hear it from the connection: HTTP/2 does not tell.
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

    fn note(&self, has_moved: bool) {
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
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
                        return Poll::Ready(Some(Err(Broken::Caller(reason))));
                    }
                    None => return Poll::Ready(None),
                };
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(rest) => {
                        *left = rest;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let limit = *limit;
                        let _ = progress.fault.set(Fault::TooLarge { limit });
                        Poll::Ready(Some(Err(Broken::TooLarge { limit })))
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

/// A body, and what is kept for as long as it is there.
#[derive(Debug)]
pub(crate) struct Keeping<B, K> {
    body: B,
    _kept: K,
}

impl<B, K> Keeping<B, K> {
    pub(crate) fn new(body: B, kept: K) -> Self {
        Self { body, _kept: kept }
    }

    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: http_body::Body + Unpin, K: Unpin> http_body::Body for Keeping<B, K> {
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
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn chunks(chunks: &'static [&'static str]) -> Body {
        let chunks = chunks.iter().map(|chunk| Ok::<_, axum::Error>(*chunk));
        Body::from_stream(stream::iter(chunks))
    }

    async fn take(content_type: &'static str, body: Body) -> Result<Payload, Error> {
        let value = HeaderValue::from_static(content_type);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        Payload::take(&headers, body, 1_000_000, PATIENCE).await
    }

    #[tokio::test]
    async fn small_bodies_and_json_that_can_be_looked_into_are_held() {
        let sized = |length: u64| Body::from(vec![b'x'; usize::try_from(length).unwrap()]);
        for (content_type, body, is_held) in [
            ("text/plain", Body::empty(), true),
            ("text/plain", sized(HELD_BYTES), true),
            ("text/plain", sized(HELD_BYTES + 1), false),
            ("application/json", sized(PEEKED_BYTES), true),
            ("application/json", sized(PEEKED_BYTES + 1), false),
            ("application/json", chunks(&["{}"]), false),
        ] {
            let payload = take(content_type, body).await.unwrap();
            assert_eq!(matches!(payload, Payload::Held(_)), is_held);
        }
        let refused = take("text/plain", sized(1_000_001)).await;
        assert!(matches!(refused, Err(Error::TooLarge { limit: 1_000_000 })));
    }

    #[tokio::test]
    async fn a_stream_breaks_off_at_its_limit() {
        let within = Outgoing::stream(chunks(&["12345", "678"]), 8);
        assert_eq!(&within.collect().await.unwrap().to_bytes()[..], b"12345678");
        let above = Outgoing::stream(chunks(&["12345", "6789"]), 8);
        let error = above.collect().await.unwrap_err();
        assert!(matches!(error, Broken::TooLarge { limit: 8 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_arrives_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        let outcome = read(never, 10, PATIENCE).await;
        assert!(matches!(outcome, Err(Error::BodyStalled)));
        let long = read(chunks(&["123", "456"]), 5, PATIENCE).await;
        assert!(matches!(long, Err(Error::TooLarge { limit: 5 })));
    }
}
