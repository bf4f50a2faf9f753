//! Sizes in bytes, with an optional unit.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, such as `30MB` or `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// A text that is not a size.
#[derive(Debug, thiserror::Error)]
#[error("not a number of bytes, kB, MB, GB, KiB, MiB or GiB")]
pub struct InvalidSize;

impl Size {
    /// A size of this many bytes.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = match unit.trim_start() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            "GiB" => 1024 * 1024 * 1024,
            _ => return Err(InvalidSize),
        };
        let number: u64 = number.parse().map_err(|_| InvalidSize)?;
        number.checked_mul(scale).map(Self).ok_or(InvalidSize)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % 1_000_000 == 0 => write!(f, "{} MB", bytes / 1_000_000),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_has_a_unit_or_is_in_bytes() {
        for (text, bytes) in [
            ("7", 7),
            ("1kB", 1000),
            ("64KiB", 65_536),
            ("30MB", 30_000_000),
            ("1 MiB", 1 << 20),
            ("1GB", 1_000_000_000),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "GB", "1TB", "-1", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
