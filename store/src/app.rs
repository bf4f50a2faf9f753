//! The app at GHL that an installation belongs to.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

/// The name of an app, as the operator chose it: 1 to 32 lower-case letters, digits or `-`.
///
/// Within one store a name stands for one app at GHL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(Arc<str>);

impl AppName {
    /// The app that `GHL_CLIENT_ID` names.
    pub const DEFAULT: &'static str = "default";

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the app that `GHL_CLIENT_ID` names.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self.0 == *Self::DEFAULT
    }
}

impl Default for AppName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for AppName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(
                "the name of an app",
                "is 1 to 32 lower-case letters, digits or `-`",
            ))
        }
    }
}

/// A client id at GHL: 1 to 128 letters, digits, `-`, `_` or `.`. GHL's have the form `<app id>-<suffix>`.
///
/// One app can have several. A refresh token works only with the client id that it was issued to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The text of the client id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the app at GHL: the part before the first `-`.
    #[must_use]
    pub fn app_id(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }
}

impl FromStr for ClientId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=128).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(
                "a client id",
                "is 1 to 128 letters, digits, `-`, `_` or `.`",
            ))
        }
    }
}

crate::id::impl_text_traits!(AppName, ClientId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_an_app_fits_a_key_and_a_header() {
        assert!(AppName::default().is_default());
        assert_eq!("default".parse(), Ok(AppName::default()));
        assert!(!"staging-2".parse::<AppName>().unwrap().is_default());
        for wrong in ["", "Default", "a b", "a.b", "a:b", "ü", &"a".repeat(33)] {
            assert!(wrong.parse::<AppName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn client_id_begins_with_the_id_of_its_app() {
        let client: ClientId = "65f0c1-lt3x9".parse().unwrap();
        assert_eq!(client.app_id(), "65f0c1");
        let plain: ClientId = "plain".parse().unwrap();
        assert_eq!(plain.app_id(), "plain");
        assert!("a b".parse::<ClientId>().is_err());
    }
}
