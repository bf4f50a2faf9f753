//! Identifiers: installations, locations, companies, and the generation of a token.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::random;

/// The text is not a valid identifier. `Display` names the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {expected}")]
pub struct ParseIdError {
    what: &'static str,
    expected: &'static str,
}

impl ParseIdError {
    pub(crate) const fn new(what: &'static str, expected: &'static str) -> Self {
        Self { what, expected }
    }
}

/// The id of one installation of the app: `install_` and 24 lower-case hex digits.
///
/// The id is random and not derived from the location. Knowing a location does not reveal its id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstallationId(Arc<str>);

impl InstallationId {
    pub(crate) const PREFIX: &str = "install_";
    const DIGITS: usize = 24;

    /// An id that no installation gets: the random ones are 96 bits.
    pub(crate) fn none() -> Self {
        Self(format!("{}{}", Self::PREFIX, "0".repeat(Self::DIGITS)).into())
    }

    /// A new random id: 96 bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, random::hex::<12>()).into())
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition (0 to 255) that holds all keys of this installation: the first byte of the id.
    #[must_use]
    pub fn partition(&self) -> u8 {
        self.byte(0)
    }

    /// A constant number of this installation that spreads refreshes: the second byte of the id.
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
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.strip_prefix(Self::PREFIX) {
            Some(digits) if digits.len() == Self::DIGITS && digits.bytes().all(is_digit) => {
                Ok(Self(text.into()))
            }
            _ => Err(ParseIdError {
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

macro_rules! impl_text_traits {
    ($($name:ident),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $crate::id::ParseIdError;
            fn try_from(text: String) -> Result<Self, $crate::id::ParseIdError> {
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

pub(crate) use impl_text_traits;

macro_rules! ghl_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as GHL writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseIdError {
                        what: $what,
                        expected: "is 1 to 64 letters, digits, `-` or `_`",
                    })
                }
            }
        }
    };
}

ghl_id!(
    /// A sub-account at GHL: 1 to 64 letters, digits, `-` or `_`.
    LocationId,
    "a location id"
);
ghl_id!(
    /// An agency at GHL: 1 to 64 letters, digits, `-` or `_`.
    CompanyId,
    "a company id"
);
impl_text_traits!(InstallationId, LocationId, CompanyId);

/// The owner of a token: GHL's `userType`. Both kinds of token carry a company id, so only this field
/// distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserType {
    /// The token is of an agency.
    Company,
    /// The token is of a sub-account.
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
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text {
            "Company" => Ok(Self::Company),
            "Location" => Ok(Self::Location),
            _ => Err(ParseIdError {
                what: "a user type",
                expected: "is `Company` or `Location`",
            }),
        }
    }
}

/// The number of token pairs that an installation has had, from 1. It is the fencing number of the token
/// chain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Generation(u64);

impl Generation {
    /// Before the first token pair.
    pub const NONE: Self = Self(0);
    /// The generation of the first token pair.
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
    fn installation_id_round_trips_and_rejects_other_text() {
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
    fn location_id_rejects_key_separators() {
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
