//! When a token is refreshed, and when it is too old to use: pure functions of its lifetime.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

/// The remaining lifetime below which a token is refreshed before use.
const FLOOR: Duration = Duration::from_secs(5 * 60);
/// The longest time from a gateway's decision until GHL checks the token, except in a fault.
const TRANSIT_TIME: Duration = Duration::from_secs(2);
/// The longest automatic lead.
const MAX_AUTO_LEAD: Duration = Duration::from_secs(2 * 3600);

/// How much lifetime a token has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// At least [`floor`] is left: use it.
    Fresh,
    /// It is still valid, but it is refreshed before it is used.
    BelowFloor,
    /// It has expired, or would expire in transit.
    Expired,
}

/// The freshness at `now` of a token that expires at `expires_at` and lives for `lifetime`.
#[must_use]
pub fn of(expires_at: Timestamp, lifetime: Duration, now: Timestamp) -> Freshness {
    let left = expires_at.since(now);
    if left <= TRANSIT_TIME.min(lifetime / 10) {
        Freshness::Expired
    } else if left < floor(lifetime) {
        Freshness::BelowFloor
    } else {
        Freshness::Fresh
    }
}

/// The least remaining lifetime of a token that is used without a refresh: 5 minutes, or a quarter of the
/// lifetime if that is less.
#[must_use]
pub fn floor(lifetime: Duration) -> Duration {
    FLOOR.min(lifetime / 4)
}

/// How long before its expiry a token is refreshed. As text: `auto` or a duration with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lead {
    /// An eighth of the lifetime, at most 2 h. This survives a typical outage of GHL.
    #[default]
    Auto,
    /// This long, within the bounds of [`Lead::of`].
    Fixed(Duration),
}

impl Lead {
    /// The lead for a token of this lifetime: at least [`floor`], at most half of the lifetime. A longer lead
    /// would make a new token due at once.
    #[must_use]
    pub fn of(self, lifetime: Duration) -> Duration {
        let wanted = match self {
            Self::Auto => (lifetime / 8).min(MAX_AUTO_LEAD),
            Self::Fixed(lead) => lead,
        };
        wanted.max(floor(lifetime)).min(lifetime / 2)
    }

    /// When to refresh: the lead before expiry, earlier by a jitter of up to a tenth of the lead.
    ///
    /// `seed` is constant for an installation ([`jitter_seed`](crate::InstallationId::jitter_seed)).
    /// Installations that were created together are refreshed at different times.
    #[must_use]
    pub fn due(self, expires_at: Timestamp, lifetime: Duration, seed: u8) -> Timestamp {
        let lead = self.of(lifetime);
        let jitter = (lead / 10).saturating_mul(u32::from(seed)) / 255;
        expires_at - lead - jitter
    }
}

impl FromStr for Lead {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            duration => humantime::parse_duration(duration).map(Self::Fixed),
        }
    }
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(lead) => humantime::format_duration(*lead).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const SHORT: Duration = Duration::from_secs(20);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn floor_is_five_minutes_or_a_quarter_of_the_lifetime() {
        assert_eq!(floor(DAY), Duration::from_secs(300));
        assert_eq!(floor(SHORT), Duration::from_secs(5));
    }

    #[test]
    fn lead_stays_within_its_bounds() {
        assert_eq!(Lead::Auto.of(DAY), Duration::from_secs(7200));
        assert_eq!(Lead::Auto.of(HOUR), Duration::from_secs(450));
        assert_eq!(Lead::Auto.of(SHORT), Duration::from_secs(5));
        let second = Lead::Fixed(Duration::from_secs(1));
        assert_eq!(second.of(DAY), Duration::from_secs(300), "under the floor");
        let week = Lead::Fixed(DAY * 7);
        assert_eq!(week.of(DAY), DAY / 2, "longer than the token lives");
    }

    #[test]
    fn jitter_only_makes_a_refresh_earlier() {
        let expires_at = Timestamp::from_millis(100_000_000_000);
        let latest = expires_at - Lead::Auto.of(DAY);
        for seed in 0..=255 {
            let due = Lead::Auto.due(expires_at, DAY, seed);
            assert!(due <= latest && due >= latest - Duration::from_secs(720));
        }
    }

    #[test]
    fn longest_lifetime_does_not_overflow() {
        let lead = Lead::Fixed(Duration::MAX);
        for lifetime in [Duration::ZERO, DAY, Duration::MAX] {
            let due = lead.due(Timestamp::from_millis(i64::MAX), lifetime, 255);
            assert!(due <= Timestamp::from_millis(i64::MAX), "{lifetime:?}");
        }
    }

    #[test]
    fn freshness_changes_at_the_floor_and_at_the_transit_time() {
        let expires_at = Timestamp::from_millis(1_000_000);
        let at = |left| of(expires_at, DAY, expires_at - Duration::from_millis(left));
        assert_eq!(at(300_000), Freshness::Fresh);
        assert_eq!(at(299_999), Freshness::BelowFloor);
        assert_eq!(at(2001), Freshness::BelowFloor);
        assert_eq!(at(2000), Freshness::Expired);
        assert_eq!(at(0), Freshness::Expired);
        let short = |left| {
            of(
                expires_at,
                SHORT / 4,
                expires_at - Duration::from_millis(left),
            )
        };
        assert_eq!(short(501), Freshness::BelowFloor);
        assert_eq!(short(500), Freshness::Expired);
    }

    #[test]
    fn lead_parses_auto_or_a_duration_with_a_unit() {
        assert_eq!("auto".parse::<Lead>().unwrap(), Lead::Auto);
        assert_eq!(
            "5m".parse::<Lead>().unwrap(),
            Lead::Fixed(Duration::from_secs(300))
        );
        assert!("5".parse::<Lead>().is_err());
    }
}
