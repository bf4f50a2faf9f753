//! The authenticated caller of an API request, and what it may access.

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;

use crate::app::World;
use crate::directory::Location;
use crate::error::ApiError;
use crate::subject::Subject;
use crate::token::Claims;

/// The bearer of a live access token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) claims: Claims,
}

/// Whether an agency's token may be used for a call on one of its locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agency {
    Admitted,
    Refused,
}

impl Caller {
    pub(super) fn new(claims: Claims) -> Self {
        Self { claims }
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.claims.identity.subject
    }

    /// The location that a call names, if the caller may access it.
    pub(super) fn location<'w>(
        &self,
        world: &'w mut World,
        id: &str,
        agency: Agency,
    ) -> Result<&'w mut Location, ApiError> {
        match self.subject() {
            Subject::Location { location, company } if **location == *id => {
                Ok(world.directory.open(id, company))
            }
            Subject::Location { .. } => Err(no_access()),
            Subject::Company { company } => {
                if agency == Agency::Refused {
                    return Err(wrong_class());
                }
                world
                    .directory
                    .find(id)
                    .filter(|location| location.company == *company)
                    .ok_or_else(no_access)
            }
        }
    }

    /// The caller's own location.
    pub(super) fn own_location<'w>(
        &self,
        world: &'w mut World,
    ) -> Result<&'w mut Location, ApiError> {
        let location = self.subject().location().ok_or_else(wrong_class)?;
        self.location(world, location, Agency::Refused)
    }

    /// The company of an agency, for calls that only agencies may make.
    pub(crate) fn agency(&self) -> Result<&str, ApiError> {
        match self.subject() {
            Subject::Company { company } => Ok(company),
            Subject::Location { .. } => Err(wrong_class()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::unauthorized("Invalid JWT"))
    }
}

pub(crate) fn no_access() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "The token does not have access to this location.",
    )
}

pub(super) fn wrong_class() -> ApiError {
    ApiError::unauthorized("This authClass type is not allowed to access this scope.")
}
