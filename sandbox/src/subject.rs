//! The owner of a token: a location or a company.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// GHL's `userType`, called `authClass` inside tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserType {
    Company,
    Location,
}

/// One location, or a whole agency.
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

    /// The id of the location, or of the company for an agency.
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

/// Whether this is a valid id of a location or a company.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
