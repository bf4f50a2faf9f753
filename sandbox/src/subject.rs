//! Whom a token speaks for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// GHL's `userType`, called `authClass` inside tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserType {
    Company,
    Location,
}

/// One location, or the agency as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Company {
        company: Arc<str>,
    },
    Location {
        location: Arc<str>,
        company: Arc<str>,
    },
}

impl Subject {
    pub(crate) fn user_type(&self) -> UserType {
        match self {
            Self::Company { .. } => UserType::Company,
            Self::Location { .. } => UserType::Location,
        }
    }

    /// The id it is known by: of the location if it is one, of the company otherwise.
    pub(crate) fn id(&self) -> &Arc<str> {
        match self {
            Self::Company { company } => company,
            Self::Location { location, .. } => location,
        }
    }

    pub(crate) fn company(&self) -> &Arc<str> {
        match self {
            Self::Company { company } | Self::Location { company, .. } => company,
        }
    }

    pub(crate) fn location(&self) -> Option<&Arc<str>> {
        match self {
            Self::Company { .. } => None,
            Self::Location { location, .. } => Some(location),
        }
    }
}

/// Whether this could be the id of a location or a company.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
