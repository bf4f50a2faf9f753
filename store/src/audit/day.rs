//! A day of the store's time, in UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A day, such as `2026-11-29`. Days are ordered as they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day([u8; 10]);

/// The text is no [`Day`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is written like 2026-11-29")]
pub struct BadDay;

impl Day {
    /// The day of a point in time.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let text = at.to_string();
        text[..10].parse().unwrap_or(Self(*b"1970-01-01"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl FromStr for Day {
    type Err = BadDay;

    fn from_str(text: &str) -> Result<Self, BadDay> {
        let bytes: [u8; 10] = text.as_bytes().try_into().map_err(|_| BadDay)?;
        let is_right = bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        is_right.then_some(Self(bytes)).ok_or(BadDay)
    }
}

impl TryFrom<String> for Day {
    type Error = BadDay;

    fn try_from(text: String) -> Result<Self, BadDay> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn day_is_that_of_utc_and_ordered() {
        let noon = Timestamp::from_millis(1_795_953_600_000);
        let day = Day::of(noon);
        assert_eq!(day.to_string(), "2026-11-29");
        assert_eq!(day.to_string().parse(), Ok(day));
        let next = Day::of(Timestamp::from_millis(noon.as_millis() + 12 * 3_600_000));
        assert_eq!(next.to_string(), "2026-11-30");
        assert!(day < next);
        for wrong in ["", "2026-11-2", "2026-11-299", "2026/11/29", "2026-11-2x"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }
}
