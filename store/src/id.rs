//! The names things have: installations, locations, companies, and a token's generation.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::random;

/// Text that is not the name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {expected}")]
pub struct Malformed {
    what: &'static str,
    expected: &'static str,
}

/// One installation of the app: `install_` and 24 hex digits.
///
/// Random, not derived from the location, so that knowing a location does not tell its id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstallationId(Arc<str>);

impl InstallationId {
    const PREFIX: &str = "install_";
    const DIGITS: usize = 24;

    /// A name that no installation had before.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, random::hex::<12>()).into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition, 0..256, that all of this installation's keys live in.
    #[must_use]
    pub fn partition(&self) -> u8 {
        self.byte(0)
    }

    /// A number that is this installation's own and never changes, to spread refreshes by.
    #[must_use]
    pub fn jitter_seed(&self) -> u8 {
        self.byte(1)
    }

    fn byte(&self, index: usize) -> u8 {
        let start = Self::PREFIX.len() + 2 * index;
        let digits = &self.0[start..start + 2];
        u8::from_str_radix(digits, 16).expect("checked when the id was made")
    }
}

impl FromStr for InstallationId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.strip_prefix(Self::PREFIX) {
            Some(digits) if digits.len() == Self::DIGITS && digits.bytes().all(is_digit) => {
                Ok(Self(text.into()))
            }
            _ => Err(Malformed {
                what: "an installation id",
                expected: "is `install_` and 24 hex digits",
            }),
        }
    }
}

impl Borrow<str> for InstallationId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! text_of {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    )*};
}

macro_rules! ghl_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let is_fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                if (1..=64).contains(&text.len()) && text.bytes().all(is_fine) {
                    Ok(Self(text.into()))
                } else {
                    Err(Malformed {
                        what: $what,
                        expected: "is 1 to 64 letters, digits, `-` or `_`",
                    })
                }
            }
        }
    };
}

ghl_name!(
    /// A sub-account at GHL.
    LocationId,
    "a location id"
);
ghl_name!(
    /// An agency at GHL.
    CompanyId,
    "a company id"
);
text_of!(InstallationId, LocationId, CompanyId);

/// Whose token it is: GHL's `userType`. Both kinds of token carry a company id, so this is what tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserType {
    Company,
    Location,
}

impl UserType {
    /// GHL's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Company => "Company",
            Self::Location => "Location",
        }
    }
}

impl fmt::Display for UserType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UserType {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "Company" => Ok(Self::Company),
            "Location" => Ok(Self::Location),
            _ => Err(Malformed {
                what: "a user type",
                expected: "is `Company` or `Location`",
            }),
        }
    }
}

/// How many token pairs an installation has had: the fencing number of the token chain, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Generation(u64);

impl Generation {
    pub const FIRST: Self = Self(1);

    /// The generation of the successor token.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Generation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_id_round_trips_and_nothing_else_parses() {
        let id = InstallationId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for wrong in [
            "",
            "install_",
            "install_00",
            "Install_000000000000000000000000",
            "install_00000000000000000000000G",
            "install_0000000000000000000000000",
        ] {
            assert!(wrong.parse::<InstallationId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_location_id_cannot_smuggle_a_key_separator() {
        assert!("ve9EPM428h8vShlRW1KT".parse::<LocationId>().is_ok());
        for wrong in ["", "a:b", "a{b}", "a b", "a\r\nb", &"a".repeat(65)] {
            assert!(wrong.parse::<LocationId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn generations_are_ordered() {
        assert!(Generation::FIRST < Generation::FIRST.next());
        assert_eq!("7".parse::<Generation>().unwrap().next().to_string(), "8");
    }
}
