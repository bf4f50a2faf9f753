//! GHL's rate limit headers.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

const MAX: &str = "x-ratelimit-max";
const REMAINING: &str = "x-ratelimit-remaining";
const INTERVAL: &str = "x-ratelimit-interval-milliseconds";
const DAILY_REMAINING: &str = "x-ratelimit-daily-remaining";

/// GHL's interval is 10 s. A longer one than a day is a mistake: calls would wait for ever, and the computed times would
/// overflow.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateLimitHeaders {
    /// Whether the response was a 429.
    pub(crate) is_refusal: bool,
    /// Requests per interval.
    pub(crate) max: Option<u32>,
    pub(crate) interval: Option<Duration>,
    /// The remaining requests of the interval.
    pub(crate) remaining: Option<u32>,
    /// The remaining requests of the day.
    pub(crate) remaining_today: Option<u32>,
    pub(crate) retry_after: Option<Duration>,
}

impl RateLimitHeaders {
    /// One pass over all headers. A lookup by name for each of these costs five times as much.
    pub(crate) fn by(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut read = Self {
            is_refusal: status == StatusCode::TOO_MANY_REQUESTS,
            ..Self::default()
        };
        for (name, value) in headers {
            match name.as_str() {
                MAX => read.max = number(value).filter(|max| *max > 0).map(saturated),
                REMAINING => read.remaining = number(value).map(saturated),
                INTERVAL => {
                    let interval = number(value).filter(|ms| *ms > 0);
                    let interval = interval.map(Duration::from_millis);
                    read.interval = interval.filter(|it| *it <= MAX_INTERVAL);
                }
                DAILY_REMAINING => read.remaining_today = number(value).map(saturated),
                "retry-after" if read.is_refusal => {
                    read.retry_after = number(value).map(Duration::from_secs);
                }
                _ => {}
            }
        }
        // Without the remaining count, the other two do not describe the current window.
        if read.remaining.is_none() {
            (read.max, read.interval) = (None, None);
        }
        read
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn parsed(status: u16, headers: &[(&'static str, &'static str)]) -> RateLimitHeaders {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        RateLimitHeaders::by(StatusCode::from_u16(status).unwrap(), &headers.collect())
    }

    #[test]
    fn rate_limit_headers_are_parsed() {
        let headers = [
            ("x-ratelimit-limit-daily", "200000"),
            ("x-ratelimit-daily-remaining", "199999"),
            ("x-ratelimit-interval-milliseconds", "10000"),
            ("x-ratelimit-max", "100"),
            ("x-ratelimit-remaining", "99"),
        ];
        let expected = RateLimitHeaders {
            is_refusal: false,
            max: Some(100),
            interval: Some(Duration::from_secs(10)),
            remaining: Some(99),
            remaining_today: Some(199_999),
            retry_after: None,
        };
        assert_eq!(parsed(200, &headers), expected);
    }

    #[test]
    fn retry_after_is_read_from_429_and_invalid_values_are_ignored() {
        let refused = parsed(429, &[("retry-after", "7")]);
        assert!(refused.is_refusal);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(7)));
        let date = parsed(429, &[("retry-after", "Tue, 24 Nov 2026 00:00:00 GMT")]);
        assert_eq!(date.retry_after, None);
        let odd = [
            ("x-ratelimit-remaining", "99999999999"),
            ("x-ratelimit-max", "0"),
            ("x-ratelimit-interval-milliseconds", "soon"),
        ];
        let expected = RateLimitHeaders {
            remaining: Some(u32::MAX),
            ..RateLimitHeaders::default()
        };
        assert_eq!(parsed(200, &odd), expected);
        assert_eq!(
            parsed(500, &[("retry-after", "7")]),
            RateLimitHeaders::default()
        );
        let absurd = [
            ("x-ratelimit-remaining", "1"),
            ("x-ratelimit-interval-milliseconds", "18446744073709551615"),
        ];
        assert_eq!(parsed(200, &absurd).interval, None);
    }
}
