//! What the token endpoint answers when it grants something.
//!
//! A refresh token is good once. An answer that is thrown away for a strange field costs an
//! installation, so only the access token decides whether an answer is one. A field that cannot be
//! read counts as absent.

mod body;
mod claims;
mod fields;
mod lifetime;
#[cfg(test)]
mod tests;

use secrecy::{ExposeSecret, SecretSlice, SecretString};

pub(crate) use body::plain;
use claims::Claims;
use fields::Fields;
pub use lifetime::{Doubt, Lifetime};

/// A grant. Every field but the access token may be missing.
#[derive(Debug, Clone)]
pub struct Answer {
    pub access_token: SecretString,
    /// Absent: the refresh token that was used stays good.
    pub refresh_token: Option<SecretString>,
    /// Space separated; never empty.
    pub scope: Option<String>,
    /// `Company` or `Location`: both kinds carry a company id, so this is what tells them apart.
    pub user_type: Option<String>,
    pub location_id: Option<String>,
    pub company_id: Option<String>,
    pub is_bulk_installation: Option<bool>,
    lifetime: Lifetime,
    claims: Claims,
    raw: SecretSlice<u8>,
}

impl Answer {
    /// How long the access token lives from the moment it was issued.
    #[must_use]
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// Whose token it is by its own claims: the user type, and the id of the location or company. For
    /// an answer that does not say.
    #[must_use]
    pub fn claimed_owner(&self) -> Option<(&str, &str)> {
        self.claims.owner()
    }

    /// The body as it arrived, for the places where nothing of it may be lost.
    #[must_use]
    pub fn raw(&self) -> &SecretSlice<u8> {
        &self.raw
    }

    /// Reads an answer, whatever it is wrapped in.
    ///
    /// # Errors
    /// When no access token can be found in it. The error never repeats the body.
    pub fn parse(body: &[u8]) -> Result<Self, Unintelligible> {
        let text = body::text(body)?;
        let fields = Fields::find(&text)?;
        let access_token = fields.access_token().ok_or(Unintelligible::NoToken)?;
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

/// An answer without a token that can be read. Says where reading stopped, not what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unintelligible {
    #[error("GHL's answer is empty")]
    Empty,
    #[error("GHL's answer is compressed and does not unpack")]
    Compressed,
    #[error("GHL's answer is compressed and unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("GHL's answer is no JSON object (reading stopped at line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("GHL's answer holds no access token")]
    NoToken,
}
