//! The store's time, carried between looks by this machine's monotonic clock.
//!
//! Expiries are written in the store's time and compared with it. Two machines' wall clocks are
//! never compared, and a wall clock that jumps moves nothing here.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// A moment in the store's time: milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(i64);

impl Timestamp {
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This machine's wall clock: the embedded store's time, and a first guess of a remote one's.
    #[must_use]
    pub fn of_this_machine() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(simulated) = crate::simulation::wall() {
            return simulated;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one reading of the wall clock"
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

/// RFC 3339 in UTC, for people.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written cannot be trusted to be a date that can be shown.
        let shown = self.0.clamp(0, LAST_SHOWN);
        let since_epoch = Duration::from_millis(u64::try_from(shown).unwrap_or(0));
        let moment = std::time::UNIX_EPOCH + since_epoch;
        humantime::format_rfc3339_seconds(moment).fmt(f)
    }
}

/// The end of the year 9999: RFC 3339 has four digits for a year.
const LAST_SHOWN: i64 = 253_402_300_799_999;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A moment of this machine's clock that nobody can set and that goes on while the machine is
/// suspended. [`std::time::Instant`] stands still then: a host that slept for an hour would take its
/// tokens and leases for as fresh as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    #[must_use]
    pub fn now() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(simulated) = crate::simulation::since_boot() {
            return Self(simulated);
        }
        Self(since_boot())
    }

    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after `earlier` this is; zero if it is not after it.
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

/// As near as other systems come: it may stand still while the machine is suspended.
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
    started: Moment,
    /// The store's time at `started`, in milliseconds.
    anchor: AtomicI64,
    is_told: AtomicBool,
}

impl StoreClock {
    /// Starts from this machine's wall clock until the store has told its time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Moment::now(),
            anchor: AtomicI64::new(Timestamp::of_this_machine().0),
            is_told: AtomicBool::new(false),
        }
    }

    /// Whether the store has told its time. Until then a token that has expired may seem to be
    /// good.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.anchor.load(Ordering::Relaxed)) + self.started.elapsed()
    }

    /// Takes over the time the store told in answer to a question sent at `asked`.
    ///
    /// The answer is dated to the middle of the round trip, so that it is wrong by half of it at most.
    pub fn set(&self, told: Timestamp, asked: Moment) {
        let middle = asked.since(self.started) + asked.elapsed() / 2;
        self.anchor.store((told - middle).0, Ordering::Relaxed);
        self.is_told.store(true, Ordering::Release);
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
    fn the_clock_follows_the_store_whatever_this_machine_thinks() {
        let clock = StoreClock::new();
        let an_hour_ahead = Timestamp::of_this_machine() + Duration::from_secs(3600);
        assert!(!clock.is_told());
        clock.set(an_hour_ahead, Moment::now());
        assert!(clock.now().since(an_hour_ahead) < Duration::from_secs(5));
        assert!(clock.now() >= an_hour_ahead && clock.is_told());
    }

    #[test]
    fn time_is_shown_in_utc_and_never_goes_below_zero() {
        let day = Timestamp::from_millis(86_400_000);
        assert_eq!(day.to_string(), "1970-01-02T00:00:00Z");
        assert_eq!(Timestamp::from_millis(0).since(day), Duration::ZERO);
        let before = Timestamp::from_millis(i64::MIN);
        assert_eq!(before.to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_date_that_is_too_far_away_is_shown_and_calculated_with_all_the_same() {
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
