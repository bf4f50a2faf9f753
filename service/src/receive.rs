//! Receives the bodies of requests from anybody: at most so long, in time, and within one budget of memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a body may take from its head to its end.
pub const MAX_TIME: Duration = Duration::from_secs(10);

/// The unit in which memory is reserved, in bytes.
const UNIT: u64 = 1024;

/// The memory for all bodies that are being received. Clones share it.
#[derive(Debug, Clone)]
pub struct ReceiveMemory(Arc<Semaphore>);

/// A complete body. Its memory is reserved until this is dropped.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    _reserved: OwnedSemaphorePermit,
}

/// Why a body was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// It is longer than this many bytes.
    #[error("The body is larger than {0} bytes")]
    TooLarge(u64),
    /// Other bodies have reserved all memory.
    #[error("Too many requests are being received")]
    Busy,
    /// It was not complete in time.
    #[error("The body did not arrive in time")]
    Late,
    /// The caller broke it off.
    #[error("The body broke off")]
    Broken,
}

impl ReceiveMemory {
    /// Memory of this many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Receives a body of at most `limit` bytes. The memory is reserved before anything is read.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub async fn receive(&self, body: Body, limit: u64) -> Result<Received, ReceiveError> {
        let hint = body.size_hint();
        if hint.lower() > limit {
            return Err(ReceiveError::TooLarge(limit));
        }
        // A body of unknown length may become as long as the limit.
        let units = hint.exact().unwrap_or(limit).div_ceil(UNIT);
        let units = u32::try_from(units).map_err(|_| ReceiveError::TooLarge(limit))?;
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(units);
        let reserved = reserved.map_err(|_| ReceiveError::Busy)?;
        let at_most = usize::try_from(limit).unwrap_or(usize::MAX);
        match timeout(MAX_TIME, to_bytes(body, at_most)).await {
            Ok(Ok(bytes)) => Ok(Received {
                bytes,
                _reserved: reserved,
            }),
            Ok(Err(error)) if is_too_large(&error) => Err(ReceiveError::TooLarge(limit)),
            Ok(Err(_)) => Err(ReceiveError::Broken),
            Err(_) => Err(ReceiveError::Late),
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunked(chunks: &[&'static str]) -> Body {
        let chunks: Vec<Result<&str, axum::Error>> = chunks.iter().map(|it| Ok(*it)).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn body_is_received_up_to_its_limit() {
        let memory = ReceiveMemory::new(64 * 1024);
        let received = memory.receive(Body::from("12345"), 5).await.unwrap();
        assert_eq!(&received.bytes[..], b"12345");
        for long in [Body::from("123456"), chunked(&["1234", "56"])] {
            assert_eq!(
                memory.receive(long, 5).await.unwrap_err(),
                ReceiveError::TooLarge(5)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_body_is_given_up_after_its_time() {
        let memory = ReceiveMemory::new(64 * 1024);
        let never = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        let started = tokio::time::Instant::now();
        assert_eq!(
            memory.receive(never, 5).await.unwrap_err(),
            ReceiveError::Late
        );
        assert_eq!(started.elapsed(), MAX_TIME);
    }

    #[tokio::test]
    async fn memory_is_reserved_before_a_body_is_read() {
        let memory = ReceiveMemory::new(2 * UNIT);
        let first = memory.receive(Body::from("1"), UNIT).await.unwrap();
        let second = memory.receive(Body::from("2"), UNIT).await.unwrap();
        let third = memory.receive(chunked(&["3"]), UNIT).await;
        assert_eq!(third.unwrap_err(), ReceiveError::Busy);
        drop((first, second));
        assert!(memory.receive(chunked(&["3"]), UNIT).await.is_ok());
    }
}
