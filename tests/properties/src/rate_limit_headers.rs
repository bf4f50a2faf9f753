//! GHL's rate limit headers: `gateway/src/admission/rate_limit_headers.rs`.
//!
//! Input: a line with the status, then headers.

use std::time::Duration;

use gateway::fuzzing::rate_limits;
use http::StatusCode;

use crate::input;

/// A window can be computed with: its numbers are neither zero nor absurd, and a pause is only in a refusal.
pub fn check(bytes: &[u8]) {
    let ([status], head) = input::lines(bytes);
    let status = StatusCode::from_bytes(status).unwrap_or(StatusCode::OK);
    let headers = input::headers(head);
    let limits = rate_limits(status, &headers);
    assert!(limits.max != Some(0), "{limits:?}");
    if let Some(interval) = limits.interval {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(86_400);
        assert!(bounds.contains(&interval), "{limits:?}");
        // As the rate window does, for as many windows as a queue can fill.
        let _ = interval * 100_000;
    }
    if limits.remaining.is_none() {
        assert_eq!((limits.max, limits.interval), (None, None));
    }
    if status != StatusCode::TOO_MANY_REQUESTS {
        assert_eq!(limits.retry_after, None);
    }
    // Other headers change nothing.
    let ours = |name: &str| name.starts_with("x-ratelimit-") || name == "retry-after";
    let mut only = headers.clone();
    for name in headers.keys().filter(|name| !ours(name.as_str())) {
        only.remove(name);
    }
    assert_eq!(rate_limits(status, &only), limits);
}
