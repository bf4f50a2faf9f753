//! Parses the requests of the token endpoint.

use std::sync::Arc;

use http::HeaderMap;

use crate::apps::Apps;
use crate::error::ApiError;
use crate::faults::GrantType;
use crate::fields::Fields;
use crate::ledger::TokenOutcome;
use crate::subject::UserType;

/// The spelling of fields: `client_id`, or `clientId` with `Version: v3`. Requests are read in either
/// spelling, responses use one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    Snake,
    Camel,
}

impl Spelling {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get("version") {
            Some(version) if version == "v3" => Self::Camel,
            Some(_) | None => Self::Snake,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct TokenRequest {
    pub(super) client: Arc<str>,
    pub(super) grant_type: GrantType,
    pub(super) presented: Presented,
    pub(super) user_type: Option<UserType>,
}

#[derive(Clone, Debug)]
pub(super) enum Presented {
    Code {
        code: String,
        redirect_uri: Option<String>,
    },
    RefreshToken(String),
}

impl TokenRequest {
    /// Parses the request and checks the client credentials.
    pub(super) fn read(
        apps: &Apps,
        headers: &HeaderMap,
        body: &[u8],
        spelling: Spelling,
    ) -> Result<Self, (TokenOutcome, ApiError)> {
        let bad = |error| (TokenOutcome::InvalidRequest, error);
        let fields = Fields::body(headers, body).map_err(bad)?;
        let client_id = required(&fields, "client_id", "clientId").map_err(bad)?;
        let client_secret = required(&fields, "client_secret", "clientSecret").map_err(bad)?;
        let grant_type = grant_type(&fields, spelling).map_err(bad)?;
        let user_type = user_type(&fields, spelling).map_err(bad)?;
        let client = apps.authenticate(client_id, client_secret);
        let client = client.ok_or_else(invalid_client)?;
        let presented = match grant_type {
            GrantType::AuthorizationCode => Presented::Code {
                code: required(&fields, "code", "code").map_err(bad)?.to_owned(),
                redirect_uri: either(&fields, "redirect_uri", "redirectUri").map(str::to_owned),
            },
            GrantType::RefreshToken => {
                let token = required(&fields, "refresh_token", "refreshToken").map_err(bad)?;
                Presented::RefreshToken(token.to_owned())
            }
        };
        Ok(Self {
            client,
            grant_type,
            presented,
            user_type,
        })
    }
}

/// GHL's answer to a wrong pair, and to a code or token of another pair.
pub(super) fn invalid_client() -> (TokenOutcome, ApiError) {
    (
        TokenOutcome::InvalidClient,
        ApiError::oauth("Invalid client credentials!"),
    )
}

fn either<'f>(fields: &'f Fields, snake: &str, camel: &str) -> Option<&'f str> {
    fields.get(snake).or_else(|| fields.get(camel))
}

fn required<'f>(fields: &'f Fields, snake: &str, camel: &str) -> Result<&'f str, ApiError> {
    either(fields, snake, camel)
        .ok_or_else(|| ApiError::bad_request(&format!("Missing parameter: {camel}")))
}

fn grant_type(fields: &Fields, spelling: Spelling) -> Result<GrantType, ApiError> {
    match (either(fields, "grant_type", "grantType"), spelling) {
        (Some("authorization_code"), _) => Ok(GrantType::AuthorizationCode),
        (Some("refresh_token"), _) => Ok(GrantType::RefreshToken),
        // In GHL's documents, but not for this kind of app.
        (Some("client_credentials"), _) | (Some(_), Spelling::Camel) => {
            Err(ApiError::bad_request("Invalid parameter: grantType"))
        }
        (None, Spelling::Camel) => Err(ApiError::bad_request("Missing parameter: grantType")),
        (Some(_) | None, Spelling::Snake) => {
            Err(ApiError::invalid(["grant_type must be a valid enum value"]))
        }
    }
}

fn user_type(fields: &Fields, spelling: Spelling) -> Result<Option<UserType>, ApiError> {
    match (either(fields, "user_type", "userType"), spelling) {
        (None, _) => Ok(None),
        (Some("Location"), _) => Ok(Some(UserType::Location)),
        (Some("Company"), _) => Ok(Some(UserType::Company)),
        (Some(_), Spelling::Camel) => Err(ApiError::bad_request("Invalid parameter: userType")),
        (Some(_), Spelling::Snake) => {
            Err(ApiError::invalid(["user_type must be a valid enum value"]))
        }
    }
}
