//! The caller's own data about an installation: its id of the customer, and tags.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, ParseIdError, impl_text_traits};

/// The most tags of one installation.
pub const MAX_TAGS: usize = 16;

/// The customer's id in the caller's system: 1 to 128 visible ASCII characters. Within an app it names one installation.
/// It does not begin as the ids of installations do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalId(Arc<str>);

impl ExternalId {
    /// The id as the caller wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name in the index of locations and companies. Neither a location nor a company has such a name, since their
    /// ids have no colon.
    #[must_use]
    pub fn index_name(&self) -> String {
        format!("x:{}", utf8_percent_encode(&self.0, NON_ALPHANUMERIC))
    }
}

impl FromStr for ExternalId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_installation = text.starts_with(InstallationId::PREFIX);
        if (1..=128).contains(&text.len()) && is_visible && !is_installation {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(
                "an external id",
                "is 1 to 128 visible ASCII characters without spaces, and does not begin with `install_`",
            ))
        }
    }
}

/// A short text by which the caller finds installations: 1 to 64 characters, without commas and control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

impl Tag {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The family of the installations with this tag: see [`crate::keys::family`].
    #[must_use]
    pub fn family(&self) -> String {
        format!("tag:{}", utf8_percent_encode(&self.0, NON_ALPHANUMERIC))
    }
}

impl FromStr for Tag {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_trimmed = text.trim() == text;
        let is_allowed = |it: char| !it.is_control() && it != ',';
        if is_trimmed && (1..=64).contains(&text.chars().count()) && text.chars().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(
                "a tag",
                "is 1 to 64 characters, without commas, control characters and spaces at its ends",
            ))
        }
    }
}

impl_text_traits!(ExternalId, Tag);

/// The caller's own data about an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The customer's id in the caller's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<ExternalId>,
    /// At most [`MAX_TAGS`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
}

impl Customer {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.external_id.is_none() && self.tags.is_empty()
    }
}

/// Parses tags. Repeated ones count once.
///
/// # Errors
/// A message if one is malformed, or if there are more than [`MAX_TAGS`].
pub fn parse_tags<T: AsRef<str>>(
    texts: impl IntoIterator<Item = T>,
) -> Result<BTreeSet<Tag>, String> {
    let tags = texts.into_iter().map(|text| text.as_ref().parse::<Tag>());
    let tags: BTreeSet<Tag> = tags
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if tags.len() > MAX_TAGS {
        return Err(format!(
            "there may be {MAX_TAGS} tags, and not {}",
            tags.len()
        ));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_id_is_visible_text_that_no_installation_has() {
        for good in ["42", "org/7:b", "ann@example.com", &"x".repeat(128)] {
            assert_eq!(good.parse::<ExternalId>().unwrap().as_str(), good);
        }
        let id = InstallationId::random();
        let long = "x".repeat(129);
        for bad in ["", " ", "a b", "é", &long, id.as_str(), "install_42"] {
            assert!(bad.parse::<ExternalId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn index_name_is_no_location_and_differs_for_each_external_id() {
        let name = |text: &str| text.parse::<ExternalId>().unwrap().index_name();
        assert!(name("L1").parse::<crate::LocationId>().is_err());
        assert_eq!(name("a:apps"), "x:a%3Aapps");
        assert_ne!(name("a%3A"), name("a:"));
    }

    #[test]
    fn tags_are_short_texts_and_few() {
        let tags = parse_tags(["vip", "größe 2", "vip"]).unwrap();
        assert_eq!(tags.len(), 2);
        for bad in ["", "a,b", " a", "a\n", &"x".repeat(65)] {
            assert!(parse_tags([bad]).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..17).map(|number| number.to_string()).collect();
        assert!(parse_tags(&many[..16]).is_ok());
        assert!(parse_tags(&many).is_err());
    }
}
