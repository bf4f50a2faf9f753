//! Metrics about requests to the store, for every process. All of their names are in this file.
//!
//! The handles are made once, with the reader and the writer, so they need an installed recorder by then. A request that
//! the gateway answers from memory does not come here.

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::time::Instant;

use crate::reader::ReadError;

/// Requests that the store did not answer, or refused.
pub const ERRORS: &str = "evergreen_store_errors_total";
/// Upper bounds in seconds of the buckets of [`DURATION`]: from a file or a near Redis to a timeout.
pub const DURATION_BUCKETS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];
/// The histogram with [`DURATION_BUCKETS`].
pub const DURATION: &str = "evergreen_store_request_duration_seconds";

/// The requests of one kind.
pub struct Requests {
    duration: Histogram,
    errors: Counter,
}

/// The errors of requests.
pub trait RequestError {
    /// Whether the store did not answer, or refused to serve the request. A record that cannot be read is no such error.
    fn is_of_store(&self) -> bool;
}

impl Requests {
    /// `operation`: one of few, since each has its own series.
    #[must_use]
    pub fn new(operation: &'static str) -> Self {
        describe_histogram!(
            DURATION,
            Unit::Seconds,
            "Duration of requests to the store, by operation"
        );
        describe_counter!(ERRORS, "Failed requests to the store, by operation");
        let errors = counter!(ERRORS, "operation" => operation);
        errors.absolute(0);
        Self {
            duration: histogram!(DURATION, "operation" => operation),
            errors,
        }
    }

    /// Measures a request.
    ///
    /// # Errors
    /// Those of the request.
    pub async fn observe<T, E: RequestError>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let sent_at = Instant::now();
        let answer = request.await;
        self.duration.record(sent_at.elapsed().as_secs_f64());
        if answer.as_ref().is_err_and(RequestError::is_of_store) {
            self.errors.increment(1);
        }
        answer
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl RequestError for ReadError {
    fn is_of_store(&self) -> bool {
        self.is_unavailable()
    }
}

/// The requests of a reader.
#[derive(Debug)]
pub(crate) struct Reads {
    pub(crate) access: Requests,
    pub(crate) location: Requests,
    pub(crate) caller: Requests,
    pub(crate) key_list: Requests,
    pub(crate) ping: Requests,
}

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            access: Requests::new("access"),
            location: Requests::new("location"),
            caller: Requests::new("caller"),
            key_list: Requests::new("key_list"),
            ping: Requests::new("ping"),
        }
    }
}
