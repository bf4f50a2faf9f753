//! GHL's rate limits: requests per interval and per day, for each app and location or company.
//!
//! GHL does not document three choices that are made here: an interval starts with a location's first call
//! in it, a day starts at midnight UTC, and refused calls do not count.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

const DAILY: HeaderName = HeaderName::from_static("x-ratelimit-limit-daily");
const DAILY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-daily-remaining");
const INTERVAL: HeaderName = HeaderName::from_static("x-ratelimit-interval-milliseconds");
const MAX: HeaderName = HeaderName::from_static("x-ratelimit-max");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// The limits. 0 means no limit, and its headers are then omitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) per_interval: u32,
    pub(crate) interval_ms: u64,
    pub(crate) per_day: u32,
}

/// The state of the limits after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) admitted: bool,
    per_interval: u32,
    interval_ms: u64,
    remaining: u32,
    per_day: u32,
    remaining_today: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Limits {
    windows: HashMap<Box<str>, HashMap<Arc<str>, Window>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    started_ms: u64,
    calls: u32,
    day: u64,
    calls_today: u32,
}

impl Limits {
    /// Counts an app's call of this location or company if the limits admit it.
    pub(crate) fn take(&mut self, app: &str, id: &Arc<str>, rules: Rules, now_ms: u64) -> Quota {
        let windows = match self.windows.get_mut(app) {
            Some(windows) => windows,
            None => self.windows.entry(app.into()).or_default(),
        };
        let window = match windows.get_mut(id) {
            Some(window) => window,
            None => windows.entry(id.clone()).or_default(),
        };
        window.take(rules, now_ms)
    }
}

impl Window {
    fn take(&mut self, rules: Rules, now_ms: u64) -> Quota {
        if now_ms >= self.started_ms.saturating_add(rules.interval_ms) {
            self.started_ms = now_ms;
            self.calls = 0;
        }
        if self.day != now_ms / DAY_MS {
            self.day = now_ms / DAY_MS;
            self.calls_today = 0;
        }
        let room = |limit, calls| limit == 0 || calls < limit;
        let admitted =
            room(rules.per_interval, self.calls) && room(rules.per_day, self.calls_today);
        if admitted {
            self.calls = self.calls.saturating_add(1);
            self.calls_today = self.calls_today.saturating_add(1);
        }
        Quota {
            admitted,
            per_interval: rules.per_interval,
            interval_ms: rules.interval_ms,
            remaining: rules.per_interval.saturating_sub(self.calls),
            per_day: rules.per_day,
            remaining_today: rules.per_day.saturating_sub(self.calls_today),
        }
    }
}

impl Quota {
    /// Adds GHL's five headers.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        if self.per_day > 0 {
            headers.insert(DAILY, HeaderValue::from(self.per_day));
            headers.insert(DAILY_REMAINING, HeaderValue::from(self.remaining_today));
        }
        if self.per_interval > 0 {
            headers.insert(INTERVAL, HeaderValue::from(self.interval_ms));
            headers.insert(MAX, HeaderValue::from(self.per_interval));
            headers.insert(REMAINING, HeaderValue::from(self.remaining));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        per_interval: 2,
        interval_ms: 10_000,
        per_day: 3,
    };

    fn admitted(limits: &mut Limits, id: &str, now_ms: u64) -> bool {
        limits.take("app", &id.into(), RULES, now_ms).admitted
    }

    #[test]
    fn calls_are_limited_per_interval_and_per_day() {
        let mut limits = Limits::default();
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        assert!(admitted(&mut limits, "a", noon));
        assert!(admitted(&mut limits, "a", noon + 1));
        assert!(!admitted(&mut limits, "a", noon + 9_999));
        assert!(admitted(&mut limits, "b", noon + 9_999), "each its own");
        let other_app = limits.take("other", &"a".into(), RULES, noon + 9_999);
        assert!(other_app.admitted, "each app its own");
        assert!(admitted(&mut limits, "a", noon + 10_000));
        assert!(
            !admitted(&mut limits, "a", noon + 30_000),
            "the day is full"
        );
        assert!(admitted(&mut limits, "a", noon + DAY_MS));
    }

    #[test]
    fn headers_show_the_remaining_calls() {
        let quota = Limits::default().take("app", &"a".into(), RULES, DAY_MS);
        let mut headers = HeaderMap::new();
        quota.describe(&mut headers);
        assert_eq!(headers.len(), 5);
        assert_eq!(headers["x-ratelimit-remaining"], "1");
        assert_eq!(headers["x-ratelimit-daily-remaining"], "2");
        assert_eq!(headers["x-ratelimit-interval-milliseconds"], "10000");
    }

    #[test]
    fn zero_means_no_limit() {
        let rules = Rules {
            per_interval: 0,
            per_day: 0,
            ..RULES
        };
        let mut limits = Limits::default();
        let mut headers = HeaderMap::new();
        for _ in 0..1000 {
            let quota = limits.take("app", &"a".into(), rules, DAY_MS);
            assert!(quota.admitted);
            quota.describe(&mut headers);
        }
        assert!(headers.is_empty());
    }
}
