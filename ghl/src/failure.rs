//! The failures of the token endpoint, in one exhaustive classification.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::{SecretSlice, SecretString};
use serde_json::{Map, Value};

use crate::ownership::Mismatch;
use crate::scrub::scrub;
use crate::token_response::{ParseError, TokenResponse, lossy_text};

/// Why a call of the token endpoint granted no usable token. The variant decides what the caller does.
///
/// The text of a variant may come from GHL. The secrets that were sent, and whatever looks like a token, are removed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request was not sent. The refresh token is unspent.
    #[error("no connection to GHL")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request was sent and no complete response arrived. The refresh token may be spent.
    #[error("the request was sent to GHL, but no complete response arrived")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// GHL granted a token, but its response cannot be parsed. The refresh token may be spent, so the
    /// response is kept: an operator, or a later version, may be able to read it.
    #[error("GHL granted a token, but its response cannot be read")]
    Unreadable {
        /// Why it cannot be parsed.
        #[source]
        reason: ParseError,
        /// The body as it arrived.
        body: SecretSlice<u8>,
    },
    /// GHL granted the token of another installation. It must not be stored under this one. The refresh
    /// token may be spent.
    #[error("GHL responded with the token of another installation")]
    Foreign {
        /// The field that names another owner.
        #[source]
        mismatch: Mismatch,
        /// The whole response.
        response: Box<TokenResponse>,
    },
    /// GHL responded with 429 or 5xx. After a 5xx the refresh token may be spent.
    #[error("GHL answered {status}")]
    Unavailable {
        /// The status.
        status: StatusCode,
        /// `Retry-After`, if present.
        retry_after: Option<Duration>,
    },
    /// The account is unpaid or paused (400 `Location is not active`). The refresh token is unspent and works
    /// again after reactivation.
    #[error("the location is not active at GHL")]
    LocationInactive,
    /// GHL does not accept the client credentials, or not for this token. It responds the same for a revoked
    /// grant.
    #[error("GHL refused the client id and secret: {0}")]
    ClientRejected(String),
    /// GHL refused the code or the refresh token: invalid, expired, revoked or already used.
    #[error("GHL refused the grant: {0}")]
    InvalidGrant(String),
    /// GHL did not understand the request. The cause is a setting or a bug of this program.
    #[error("GHL answered {status}: {message}")]
    BadRequest {
        /// The status.
        status: StatusCode,
        /// GHL's message, at most 300 characters.
        message: String,
    },
}

impl Failure {
    /// Classifies a response with an error status. `secrets`: those that the request had.
    #[must_use]
    pub fn of<'s>(
        status: StatusCode,
        retry_after: Option<&str>,
        body: &[u8],
        secrets: impl Iterator<Item = &'s SecretString>,
    ) -> Self {
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Self::Unavailable {
                status,
                retry_after: retry_after.and_then(parse_retry_after),
            };
        }
        let parsed = ErrorBody::parse(body);
        // Before it is cut off, which could leave a part of a secret.
        let mut message = scrub(&parsed.message, secrets);
        let cut = message.char_indices().nth(ErrorBody::MAX_CHARS);
        message.truncate(cut.map_or(message.len(), |(at, _)| at));
        let lower = parsed.message.to_ascii_lowercase();
        let has = |part: &str| lower.contains(part);
        if has("location is not active") || has("location is inactive") {
            Self::LocationInactive
        } else if has("client credentials")
            || has("client_id")
            || has("client secret")
            || parsed.error == "invalid_client"
        {
            Self::ClientRejected(message)
        } else if has("invalid grant")
            || has("invalid refresh token")
            || has("refresh token is invalid")
            || has("code is invalid")
            || has("code has expired")
            || parsed.error == "invalid_grant"
        {
            Self::InvalidGrant(message)
        } else {
            Self::BadRequest { status, message }
        }
    }
}

/// An error body in one of GHL's shapes: `{statusCode, message}`, `{error, error_description}`, or that of
/// API v3, `{error: {code, message, details, resolution}}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// In lower case, because API v3 has its codes in capitals.
    error: String,
    pub(crate) message: String,
    /// Whether it is a JSON object. Pages of an edge are not.
    pub(crate) is_ghls: bool,
}

impl ErrorBody {
    pub(crate) const MAX_CHARS: usize = 300;

    pub(crate) fn parse(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_str::<Map<String, Value>>(&lossy_text(body)) else {
            return Self {
                error: String::new(),
                message: "a response that is not GHL's JSON".to_owned(),
                is_ghls: false,
            };
        };
        let (code, inner) = match body.get("error") {
            Some(Value::Object(error)) => (error.get("code"), error.get("message")),
            error => (error, None),
        };
        let code = code.and_then(words).unwrap_or_default();
        let message = [body.get("error_description"), inner, body.get("message")]
            .into_iter()
            .find_map(|message| words(message?))
            .unwrap_or_else(|| code.clone());
        Self {
            error: code.to_ascii_lowercase(),
            message,
            is_ghls: true,
        }
    }
}

/// A string, or an array of strings joined by `; `. `None` for anything else.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(texts) => {
            let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Parses seconds or a date. A date is relative to this machine's clock, because GHL's clock is unknown.
pub(crate) fn parse_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "an HTTP date can only be compared with the wall clock"
    )]
    let now = SystemTime::now();
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        match Failure::of(status, None, body.as_bytes(), [].iter()) {
            Failure::NotSent(_) => "not sent",
            Failure::Lost(_) => "lost",
            Failure::Unreadable { .. } => "unreadable",
            Failure::Foreign { .. } => "foreign",
            Failure::Unavailable { .. } => "unavailable",
            Failure::LocationInactive => "inactive",
            Failure::ClientRejected(_) => "client",
            Failure::InvalidGrant(_) => "grant",
            Failure::BadRequest { .. } => "bad request",
        }
    }

    #[test]
    fn documented_errors_are_classified() {
        let cases = [
            (
                400,
                r#"{"statusCode":400,"message":"Invalid grant: refresh token is invalid"}"#,
                "grant",
            ),
            (
                401,
                r#"{"error":"invalid_grant","error_description":"Invalid refresh token"}"#,
                "grant",
            ),
            (
                400,
                r#"{"statusCode":400,"message":"Location is not active"}"#,
                "inactive",
            ),
            (
                401,
                r#"{"error":"UnAuthorized!","error_description":"Invalid client credentials!"}"#,
                "client",
            ),
            (
                400,
                r#"{"statusCode":400,"message":"Missing parameter: clientId"}"#,
                "bad request",
            ),
            (
                400,
                r#"{"statusCode":400,"message":"Invalid parameter: grantType"}"#,
                "bad request",
            ),
            (
                422,
                r#"{"message":["grant_type must be a valid enum value"],"error":"Unprocessable Entity","statusCode":422}"#,
                "bad request",
            ),
            (
                400,
                r#"{"error":{"code":"INVALID_ARGUMENT","message":"Invalid grant: refresh token is invalid","details":{"field":"refreshToken"},"resolution":"Connect again"}}"#,
                "grant",
            ),
            (
                400,
                r#"{"error":{"code":"INVALID_GRANT","message":"It was used before"}}"#,
                "grant",
            ),
            (
                401,
                r#"{"error":{"code":"INVALID_CLIENT","message":"Unknown app"}}"#,
                "client",
            ),
            (
                400,
                r#"{"error":{"code":"FAILED_PRECONDITION","message":"Location is not active"}}"#,
                "inactive",
            ),
            (
                400,
                "\u{feff}{\"message\":[\"Invalid grant: refresh token is invalid\"]}",
                "grant",
            ),
            (429, "slow down", "unavailable"),
            (500, "<html>", "unavailable"),
            (502, "", "unavailable"),
            (403, "<html>Error 1010</html>", "bad request"),
        ];
        for (status, body, meaning) in cases {
            assert_eq!(kind(status, body), meaning, "{status} {body}");
        }
    }

    #[test]
    fn unknown_errors_are_bad_requests() {
        let bodies = [
            (400, "{}"),
            (400, "not json"),
            (400, r#"{"error":{"code":7},"message":null}"#),
            (401, "{}"),
            (404, "{}"),
        ];
        for (status, body) in bodies {
            assert_eq!(kind(status, body), "bad request", "{status} {body}");
        }
    }

    #[test]
    fn retry_after_may_be_seconds_or_a_date() {
        let wait =
            |text| match Failure::of(StatusCode::TOO_MANY_REQUESTS, Some(text), b"", [].iter()) {
                Failure::Unavailable { retry_after, .. } => retry_after,
                _ => None,
            };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn long_message_is_truncated_after_secrets_are_removed() {
        let secret = SecretString::from("s".repeat(40));
        let text = format!("{}{}", "é".repeat(280), "s".repeat(40));
        let body = format!(r#"{{"message":"{text} {}"}}"#, "é".repeat(1000));
        let failure = Failure::of(
            StatusCode::BAD_REQUEST,
            None,
            body.as_bytes(),
            [secret].iter(),
        );
        let Failure::BadRequest { message, .. } = failure else {
            panic!("{failure:?}");
        };
        assert_eq!(message.chars().count(), 300);
        assert!(
            message.contains("[removed]") && !message.contains("ss"),
            "{message}"
        );
    }
}
