//! A row of tokens that another backend has kept: GHL's token response as backends and GHL's SDKs store it.
//!
//! Only a row with a refresh token can be kept fresh. Field names are read in camel case and in snake case. Values are
//! read as JSON or as MongoDB's extended JSON. An error names the field and says what to do. It never has a value of the
//! row, because a value in a wrong field may be a token.

mod document;
mod error;
mod fields;
#[cfg(test)]
mod tests;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::ownership::Owner;
use crate::token_response::{Claims, Lifetime};
pub use document::{DocumentError, Entry, Place, split, split_lines};
pub use error::RowError;
use fields::Fields;

/// No refresh token lives for less than this, and no access token for more. It separates the two kinds in a bare text.
const LONGEST_ACCESS: Duration = Duration::from_secs(7 * 86_400);
/// How a private integration token begins.
const PRIVATE: &str = "pit-";

/// A row, as far as it can be checked without a store. Its tokens are visible ASCII.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// `None` if the row has only a refresh token.
    pub access_token: Option<SecretString>,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// `Company` or `Location`: from the row, or else from the token's claims, or else from the ids.
    pub user_type: &'static str,
    /// The location of a token of a location.
    pub location_id: Option<String>,
    /// The company. Always there for a token of a company.
    pub company_id: Option<String>,
    /// When the access token expires, in milliseconds since the Unix epoch. `None` if the row does not say.
    pub expires_at_ms: Option<i64>,
    /// When the tokens were issued, in milliseconds since the Unix epoch. `None` if the row does not say.
    pub issued_at_ms: Option<i64>,
    /// The lifetime of the access token, from one second to seven days.
    pub lifetime: Duration,
    /// The scopes, separated by spaces. Empty if the row has none.
    pub scope: String,
    /// The name of an app of evergreen.
    pub app: Option<String>,
    /// The client id that the refresh token works with.
    pub client_id: Option<String>,
    /// The id of the app at GHL, which is the first part of its client id.
    pub application_id: Option<String>,
    /// The id of the customer in the integrator's own system, up to 128 characters.
    pub external_id: Option<String>,
    /// Up to 16 tags of the customer, each of 1 to 64 characters.
    pub tags: Vec<String>,
}

impl TokenRow {
    /// Parses a row. `key`: its key in a map, which may name the location or company.
    ///
    /// # Errors
    /// See [`RowError`].
    pub fn parse(raw: &str, key: Option<&str>) -> Result<Self, RowError> {
        let value: Value = serde_json::from_str(raw).map_err(|error| RowError::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        match value {
            Value::Object(object) => Self::of(&Fields::of(&object), key),
            Value::String(text) if key.is_some() => {
                let bare = bare(text.trim())?;
                Self::of(&Fields::of(&bare), key)
            }
            Value::String(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_) => Err(RowError::NotARow),
        }
    }

    fn of(fields: &Fields<'_>, key: Option<&str>) -> Result<Self, RowError> {
        let access_token = fields.token(&["accesstoken"], "access_token")?;
        let refresh_token = fields.token(&["refreshtoken"], "refresh_token")?;
        let is_private = |token: &SecretString| token.expose_secret().starts_with(PRIVATE);
        let mut tokens = access_token.iter().chain(&refresh_token);
        if tokens.any(is_private) {
            return Err(RowError::PrivateToken);
        }
        let refresh_token = match (&access_token, refresh_token) {
            (_, Some(token)) => token,
            (Some(_), None) => return Err(RowError::NoRefreshToken),
            (None, None) => return Err(RowError::NoToken),
        };
        let claims = |token: &SecretString| Claims::of(token.expose_secret());
        let of_access = access_token.as_ref().map(claims).unwrap_or_default();
        let of_refresh = claims(&refresh_token);
        let claimed = of_access.owner().or(of_refresh.owner());
        let (user_type, id) = owner(fields, key, claimed)?;
        let location_id = (user_type == LOCATION).then(|| id.clone());
        let company_id = match user_type {
            COMPANY => Some(id),
            _ => fields.name(&["companyid"]),
        };
        let lifetime = Lifetime::of(fields.name(&["expiresin"]), of_access.lifetime()).value;
        let millis = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires_at_ms = expiry(fields, &of_access, millis)?;
        let issued_at_ms = of_access.issued_at_ms();
        Ok(Self {
            issued_at_ms: issued_at_ms.or(expires_at_ms.map(|at| at.saturating_sub(millis))),
            expires_at_ms,
            lifetime,
            scope: fields.scope(),
            app: fields.name(&["app"]),
            client_id: fields.name(&["clientid"]),
            application_id: fields.name(&["applicationid", "appid"]),
            external_id: fields.external_id()?,
            tags: fields.tags()?,
            access_token,
            refresh_token,
            user_type,
            location_id,
            company_id,
        })
    }
}

const COMPANY: &str = "Company";
const LOCATION: &str = "Location";

/// The fields of a bare token in a map.
fn bare(token: &str) -> Result<serde_json::Map<String, Value>, RowError> {
    if token.starts_with(PRIVATE) {
        return Err(RowError::PrivateToken);
    }
    let lifetime = Claims::of(token).lifetime();
    if lifetime.is_some_and(|lifetime| lifetime <= LONGEST_ACCESS) {
        return Err(RowError::NoRefreshToken);
    }
    let token = Value::from(token);
    Ok([("refresh_token".to_owned(), token)].into_iter().collect())
}

/// The kind of owner and its id. The token's claims fill in fields that the row lacks. A row that contradicts the
/// claims is refused, because a token under a wrong location would show one customer the data of another.
fn owner(
    fields: &Fields<'_>,
    key: Option<&str>,
    claimed: Option<(&str, &str)>,
) -> Result<(&'static str, String), RowError> {
    let claimed = claimed.and_then(|(class, id)| Some((Owner::user_type(class)?, id)));
    let (location, company) = (fields.name(&["locationid"]), fields.name(&["companyid"]));
    let resource = fields.resource().or(key.map(str::to_owned));
    let stated = match fields.name(&["usertype"]) {
        Some(told) => Some(Owner::user_type(&told).ok_or(RowError::BadUserType)?),
        None => None,
    };
    let kind = match (stated, claimed) {
        (Some(stated), Some((claimed, _))) if stated != claimed => {
            return Err(RowError::OtherKind { claimed, stated });
        }
        (Some(kind), _) | (None, Some((kind, _))) => kind,
        (None, None) if location.is_some() => LOCATION,
        (None, None) => match (&resource, &company) {
            (Some(resource), Some(company)) if resource == company => COMPANY,
            (None, Some(_)) => COMPANY,
            (Some(_), _) => LOCATION,
            (None, None) => return Err(RowError::NoOwner),
        },
    };
    let (named, missing) = match kind {
        COMPANY => (company, RowError::NoCompany),
        _ => (location, RowError::NoLocation),
    };
    let claimed = claimed.map(|(_, id)| id.to_owned());
    let id = named.or(resource).or_else(|| claimed.clone());
    let id = id.ok_or(missing)?;
    if claimed.is_some_and(|claimed| claimed != id) {
        return Err(RowError::OtherOwner(kind));
    }
    Ok((kind, id))
}

/// When the access token expires: by the row, unless the token itself ends clearly earlier. Backends count the lifetime
/// from GHL's response, so theirs is a little later, and more exact than the whole seconds in the token. A lifetime
/// counts only if the row says when it was written.
fn expiry(fields: &Fields<'_>, claims: &Claims, lifetime_ms: i64) -> Result<Option<i64>, RowError> {
    const AT: [&str; 6] = [
        "expiresat",
        "expireat",
        "tokenexpiresat",
        "expiresatms",
        "expiry",
        "expires",
    ];
    const TOLERANCE_MS: i64 = 5000;
    const WRITTEN: [&str; 4] = ["issuedat", "obtainedat", "updatedat", "createdat"];
    let stated = fields.time(&AT)?;
    let claimed = claims.expires_at_ms();
    match (stated, claimed) {
        (Some(stated), Some(claimed)) if stated > claimed + TOLERANCE_MS => {
            return Ok(Some(claimed));
        }
        (Some(at), _) | (None, Some(at)) => return Ok(Some(at)),
        (None, None) => {}
    }
    if fields.name(&["expiresin"]).is_none() {
        return Ok(None);
    }
    let written = fields.time(&WRITTEN).unwrap_or_default();
    Ok(written.map(|at| at.saturating_add(lifetime_ms)))
}
