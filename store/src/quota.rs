//! How many calls a key is good for in an interval.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What counts calls is a process's memory, which nobody should expect to last for longer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// So many calls, at least one, in an interval from 1 ns to a day. As text `100/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    calls: u32,
    interval: Duration,
}

/// Text that is no quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a quota is a number of calls, at least 1, per interval with its unit, at most a day, \
     such as 100/10s"
)]
pub struct NotAQuota;

impl Quota {
    #[must_use]
    pub fn calls(self) -> u32 {
        self.calls
    }

    #[must_use]
    pub fn interval(self) -> Duration {
        self.interval
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the spaces of `1m 30s`: it is one word in lists and on command lines.
        let interval = humantime::format_duration(self.interval).to_string();
        write!(f, "{}/{}", self.calls, interval.replace(' ', ""))
    }
}

impl FromStr for Quota {
    type Err = NotAQuota;

    fn from_str(text: &str) -> Result<Self, NotAQuota> {
        let (calls, interval) = text.split_once('/').ok_or(NotAQuota)?;
        let calls = calls.parse().map_err(|_| NotAQuota)?;
        let interval = humantime::parse_duration(interval).map_err(|_| NotAQuota)?;
        if calls == 0 || interval.is_zero() || interval > LONGEST {
            return Err(NotAQuota);
        }
        Ok(Self { calls, interval })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_round_trips_as_one_word() {
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
    fn what_lets_nothing_or_everything_through_is_no_quota() {
        for text in [
            "", "5", "/", "5/", "/1s", "0/1s", "-1/1s", "x/1s", "5/0s", "5/1", "5/25h", "5/1s/1s",
        ] {
            assert_eq!(text.parse::<Quota>(), Err(NotAQuota), "{text}");
        }
    }
}
