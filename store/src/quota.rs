//! The rate limit of a caller's key.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Calls are counted in a process's memory, which does not reliably outlive a day.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// A number of calls, at least 1, per interval of 1 ns to 24 h. As text: `100/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    calls: u32,
    interval: Duration,
}

/// The text is no [`Quota`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a quota is a number of calls, at least 1, per interval with its unit, at most a day, \
     such as 100/10s"
)]
pub struct ParseQuotaError;

impl Quota {
    /// The number of calls per interval.
    #[must_use]
    pub fn calls(self) -> u32 {
        self.calls
    }

    /// The length of the interval.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.interval
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the spaces of `1m 30s`, because lists and command lines treat it as one word.
        let interval = humantime::format_duration(self.interval).to_string();
        write!(f, "{}/{}", self.calls, interval.replace(' ', ""))
    }
}

impl FromStr for Quota {
    type Err = ParseQuotaError;

    fn from_str(text: &str) -> Result<Self, ParseQuotaError> {
        let (calls, interval) = text.split_once('/').ok_or(ParseQuotaError)?;
        let calls = calls.parse().map_err(|_| ParseQuotaError)?;
        let interval = humantime::parse_duration(interval).map_err(|_| ParseQuotaError)?;
        if calls == 0 || interval.is_zero() || interval > MAX_INTERVAL {
            return Err(ParseQuotaError);
        }
        Ok(Self { calls, interval })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_round_trips_as_one_word() {
        for (text, shown) in [
            ("100/10s", "100/10s"),
            ("5/90s", "5/1m30s"),
            ("1/1ms", "1/1ms"),
            ("4294967295/24h", "4294967295/1day"),
        ] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!(quota.to_string(), shown);
            assert_eq!(shown.parse(), Ok(quota));
        }
    }

    #[test]
    fn zero_unlimited_and_malformed_quotas_are_rejected() {
        for text in [
            "", "5", "/", "5/", "/1s", "0/1s", "-1/1s", "x/1s", "5/0s", "5/1", "5/25h", "5/1s/1s",
        ] {
            assert_eq!(text.parse::<Quota>(), Err(ParseQuotaError), "{text}");
        }
    }
}
