//! The token endpoint's response to a granted request.
//!
//! A refresh token is valid once, so a response that is rejected for an unusual field loses an installation.
//! Only the access token decides whether a response is valid. Any other field that cannot be read counts as
//! absent.
//!
//! GHL documents snake case for the unversioned endpoint and camel case for API v3. Both are read.

mod body;
mod claims;
mod fields;
mod lifetime;
#[cfg(test)]
mod tests;

use secrecy::{ExposeSecret, SecretSlice, SecretString};

pub(crate) use body::lossy_text;
pub(crate) use claims::Claims;
use fields::Fields;
pub use lifetime::{Lifetime, LifetimeWarning};

/// A granted token. Every field except the access token may be missing.
#[derive(Debug, Clone)]
pub struct TokenResponse {
    /// A JWT. Its size grows with the number of scopes.
    pub access_token: SecretString,
    /// The successor of the refresh token. If `None`, the refresh token that was sent stays valid.
    pub refresh_token: Option<SecretString>,
    /// The scopes, separated by spaces. Never empty.
    pub scope: Option<String>,
    /// `Company` or `Location`. Both kinds of token carry a company id, so only this field distinguishes
    /// them.
    pub user_type: Option<String>,
    /// The location, only in tokens of a location.
    pub location_id: Option<String>,
    /// The company, also in tokens of a location.
    pub company_id: Option<String>,
    /// Whether an agency user installed the app in bulk.
    pub is_bulk_installation: Option<bool>,
    lifetime: Lifetime,
    claims: Claims,
    raw: SecretSlice<u8>,
}

impl TokenResponse {
    /// The lifetime of the access token from its issue.
    #[must_use]
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// The owner by the token's own claims: the user type, and the id of the location or company. For a
    /// response that does not name its owner.
    #[must_use]
    pub fn claimed_owner(&self) -> Option<(&str, &str)> {
        self.claims.owner()
    }

    /// The body as it arrived.
    #[must_use]
    pub fn raw(&self) -> &SecretSlice<u8> {
        &self.raw
    }

    /// Parses a body. Byte order marks, gzip and a wrapping `{"data": …}` are removed.
    ///
    /// # Errors
    /// If no access token is found. The error never contains a part of the body.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let text = body::text(body)?;
        let fields = Fields::find(&text)?;
        let access_token = fields.access_token().ok_or(ParseError::NoToken)?;
        let claims = Claims::of(access_token.expose_secret());
        Ok(Self {
            refresh_token: fields.token("refresh_token", "refreshToken"),
            scope: fields.scope(),
            user_type: fields.name("user_type", "userType"),
            location_id: fields.name("location_id", "locationId"),
            company_id: fields.name("company_id", "companyId"),
            is_bulk_installation: fields.flag("is_bulk_installation", "isBulkInstallation"),
            lifetime: Lifetime::of(fields.expires_in(), claims.lifetime()),
            claims,
            raw: SecretSlice::from(body.to_vec()),
            access_token,
        })
    }
}

/// Why a body is not a valid token response. Says where parsing stopped, not what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The body is empty or white space.
    #[error("GHL's response is empty")]
    Empty,
    /// The body starts like gzip and cannot be decompressed.
    #[error("GHL's response is compressed and cannot be decompressed")]
    Compressed,
    /// The decompressed body exceeds the limit in bytes.
    #[error("GHL's response is compressed and exceeds {0} bytes when decompressed")]
    TooLarge(u64),
    /// The body is not a JSON object.
    #[error(
        "GHL's response is not a JSON object (parsing stopped at line {line}, column {column})"
    )]
    NotJson {
        /// The line at which parsing stopped, from 1.
        line: usize,
        /// The column at which parsing stopped, from 1.
        column: usize,
    },
    /// The object has no access token.
    #[error("GHL's response has no access token")]
    NoToken,
}
