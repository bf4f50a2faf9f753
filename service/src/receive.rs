//! Receives the bodies of requests from anybody: at most so long, in time, and within one budget of memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::{Settings, Size};
use crate::locks::lock;

/// How long a body may take from its head to its end.
pub const MAX_TIME: Duration = Duration::from_secs(10);

/// The unit in which memory is reserved, in bytes.
const UNIT: u64 = 1024;

/// One address may reserve a sixteenth of the memory.
const SHARE: usize = 16;

/// Reads `EVERGREEN_RECEIVE_MEMORY`, in bytes. The default is far above what customers and GHL send at once.
pub fn read_memory(settings: &mut Settings<'_>) -> u64 {
    const KEY: &str = "EVERGREEN_RECEIVE_MEMORY";
    let default = Size::of_bytes(64 * 1024 * 1024);
    let size = settings.parse(KEY, default, "a size such as 64MiB");
    if size.bytes() < 1024 * 1024 {
        settings.mistake(KEY, "must be at least 1MiB");
    }
    size.bytes()
}

/// The memory for all bodies that are being received. Clones share it.
#[derive(Debug, Clone)]
pub struct ReceiveMemory {
    all: Arc<Semaphore>,
    /// The units that one address may reserve.
    share: usize,
    /// The units that each address has reserved.
    reserved: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A complete body. Its memory is reserved until this is dropped.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    _reserved: Reserved,
}

/// Units of memory. They are free again when this is dropped.
#[derive(Debug)]
struct Reserved {
    _of_all: OwnedSemaphorePermit,
    from: IpAddr,
    units: usize,
    reserved: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut reserved = lock(&self.reserved);
        if let Some(units) = reserved.get_mut(&self.from) {
            *units = units.saturating_sub(self.units);
            if *units == 0 {
                reserved.remove(&self.from);
            }
        }
    }
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
        let units = units.min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(units)),
            share: units / SHARE,
            reserved: Arc::default(),
        }
    }

    /// Receives a body of at most `limit` bytes from this address. The memory is reserved before anything is read.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub async fn receive(
        &self,
        body: Body,
        limit: u64,
        from: IpAddr,
    ) -> Result<Received, ReceiveError> {
        let hint = body.size_hint();
        if hint.lower() > limit {
            return Err(ReceiveError::TooLarge(limit));
        }
        // A body of unknown length may become as long as the limit.
        let units = hint.exact().unwrap_or(limit).div_ceil(UNIT);
        let units = u32::try_from(units).map_err(|_| ReceiveError::TooLarge(limit))?;
        let reserved = self.reserve(units, from).ok_or(ReceiveError::Busy)?;
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

    fn reserve(&self, units: u32, from: IpAddr) -> Option<Reserved> {
        let of_all = Arc::clone(&self.all).try_acquire_many_owned(units).ok()?;
        let units = units as usize;
        let mut reserved = lock(&self.reserved);
        let of_address = reserved.get(&from).copied().unwrap_or(0);
        // One body always fits.
        if of_address > 0 && of_address + units > self.share {
            return None;
        }
        reserved.insert(from, of_address + units);
        Some(Reserved {
            _of_all: of_all,
            from,
            units,
            reserved: Arc::clone(&self.reserved),
        })
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

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    fn chunked(chunks: &[&'static str]) -> Body {
        let chunks: Vec<Result<&str, axum::Error>> = chunks.iter().map(|it| Ok(*it)).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn body_is_received_up_to_its_limit() {
        let memory = ReceiveMemory::new(64 * 1024);
        let received = memory
            .receive(Body::from("12345"), 5, address(1))
            .await
            .unwrap();
        assert_eq!(&received.bytes[..], b"12345");
        for long in [Body::from("123456"), chunked(&["1234", "56"])] {
            assert_eq!(
                memory.receive(long, 5, address(1)).await.unwrap_err(),
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
            memory.receive(never, 5, address(1)).await.unwrap_err(),
            ReceiveError::Late
        );
        assert_eq!(started.elapsed(), MAX_TIME);
    }

    #[tokio::test]
    async fn memory_is_reserved_before_a_body_is_read() {
        let memory = ReceiveMemory::new(2 * UNIT);
        let mut kept = Vec::new();
        for last in [1, 2] {
            let received = memory.receive(Body::from("1"), UNIT, address(last)).await;
            kept.push(received.unwrap());
        }
        let third = memory.receive(chunked(&["3"]), UNIT, address(3)).await;
        assert_eq!(third.unwrap_err(), ReceiveError::Busy);
        drop(kept);
        let third = memory.receive(chunked(&["3"]), UNIT, address(3)).await;
        assert!(third.is_ok());
    }

    #[tokio::test]
    async fn one_address_reserves_a_share_of_the_memory() {
        let memory = ReceiveMemory::new(2 * SHARE as u64 * UNIT);
        let mut kept = Vec::new();
        for _ in 0..2 {
            let received = memory.receive(Body::from("1"), UNIT, address(1)).await;
            kept.push(received.unwrap());
        }
        let third = memory.receive(Body::from("1"), UNIT, address(1)).await;
        assert_eq!(third.unwrap_err(), ReceiveError::Busy);
        assert!(
            memory
                .receive(Body::from("1"), UNIT, address(2))
                .await
                .is_ok()
        );
        drop(kept);
        assert!(lock(&memory.reserved).is_empty());
    }
}
