//! The store's time, extrapolated by this machine's monotonic clock between synchronizations.
//!
//! Expiries are written in the store's time and compared with it. The wall clocks of two machines are
//! never compared. A step of this machine's wall clock has no effect here.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// A point in the store's time: milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this timestamp; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This machine's wall clock: the time of an embedded store, and the first estimate of a remote store's
    /// time.
    #[must_use]
    pub fn of_this_machine() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(simulated) = crate::simulation::wall() {
            return Self(millis(simulated));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the only place that reads the wall clock"
        )]
        let now = std::time::SystemTime::now();
        let since_epoch = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self(millis(since_epoch))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// RFC 3339 in UTC, for people. Values outside the years 1970 to 9999 are clamped.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A stored value may be any number, and the formatter panics on dates that it cannot show.
        let shown = self.0.clamp(0, MAX_SHOWN);
        let since_epoch = Duration::from_millis(u64::try_from(shown).unwrap_or(0));
        let moment = std::time::UNIX_EPOCH + since_epoch;
        humantime::format_rfc3339_seconds(moment).fmt(f)
    }
}

/// The end of the year 9999: RFC 3339 has four digits for a year.
const MAX_SHOWN: i64 = 253_402_300_799_999;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A point in time of a clock that cannot be set and that runs while the machine is suspended
/// (`CLOCK_BOOTTIME` on Linux).
///
/// [`std::time::Instant`] stops during a suspension. A host that slept for an hour would consider its tokens
/// and leases as fresh as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(simulated) = crate::simulation::since_boot() {
            return Self(simulated);
        }
        Self(since_boot())
    }

    /// The time since this moment.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39");
    time.into()
}

/// The best substitute on other systems. It may stop while the machine is suspended.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

/// A running copy of the store's clock.
#[derive(Debug)]
pub struct StoreClock {
    started_at: Moment,
    /// The store's time at `started_at`, in milliseconds.
    anchor: AtomicI64,
    is_synchronized: AtomicBool,
}

impl StoreClock {
    /// Starts from this machine's wall clock, until [`StoreClock::set`] is called.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started_at: Moment::now(),
            anchor: AtomicI64::new(Timestamp::of_this_machine().0),
            is_synchronized: AtomicBool::new(false),
        }
    }

    /// Whether the store has reported its time. Until then an expired token may seem valid.
    #[must_use]
    pub fn is_synchronized(&self) -> bool {
        self.is_synchronized.load(Ordering::Acquire)
    }

    /// The store's time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.anchor.load(Ordering::Relaxed)) + self.started_at.elapsed()
    }

    /// Sets the clock to `server_time`, which the store reported to a request sent at `sent_at`.
    ///
    /// The reading is dated to the middle of the round trip. The error is at most half of the round trip.
    pub fn set(&self, server_time: Timestamp, sent_at: Moment) {
        let middle = sent_at.since(self.started_at) + sent_at.elapsed() / 2;
        self.anchor
            .store((server_time - middle).0, Ordering::Relaxed);
        self.is_synchronized.store(true, Ordering::Release);
    }
}

impl Default for StoreClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_follows_the_store_and_not_this_machine() {
        let clock = StoreClock::new();
        let an_hour_ahead = Timestamp::of_this_machine() + Duration::from_secs(3600);
        assert!(!clock.is_synchronized());
        clock.set(an_hour_ahead, Moment::now());
        assert!(clock.now().since(an_hour_ahead) < Duration::from_secs(5));
        assert!(clock.now() >= an_hour_ahead && clock.is_synchronized());
    }

    #[test]
    fn time_is_shown_in_utc_and_clamped_to_the_epoch() {
        let day = Timestamp::from_millis(86_400_000);
        assert_eq!(day.to_string(), "1970-01-02T00:00:00Z");
        assert_eq!(Timestamp::from_millis(0).since(day), Duration::ZERO);
        let before = Timestamp::from_millis(i64::MIN);
        assert_eq!(before.to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn arithmetic_and_display_saturate_at_extreme_dates() {
        let day = Timestamp::from_millis(86_400_000);
        let end = day + Duration::MAX;
        assert_eq!(end, end + Duration::from_secs(1));
        assert_eq!(end.to_string(), "9999-12-31T23:59:59Z");
        assert!(end.since(Timestamp::from_millis(i64::MIN)) > Duration::ZERO);
        assert_eq!(
            day - Duration::MAX - Duration::MAX,
            Timestamp::from_millis(i64::MIN)
        );
    }
}
