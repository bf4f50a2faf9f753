//! The sandbox's own clock. The sandbox stands in for a remote service, so it shares no clock with the
//! broker.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock at the start, advanced by a monotonic clock. It never jumps.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "a stand-in for a remote service has a clock of its own"
    )]
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_ms: millis(since_epoch),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started_ms + millis(self.started.elapsed())
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time as GHL formats it: `2026-01-02T03:04:05.678Z`.
pub(crate) fn iso(epoch_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(epoch_ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_has_ghls_format() {
        assert_eq!(iso(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
