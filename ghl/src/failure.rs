//! What the token endpoint's refusals mean: one exhaustive classification.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::SecretSlice;
use serde_json::{Map, Value};

use crate::answer::{Answer, Unintelligible, plain};
use crate::ownership::Mismatch;

/// Why a call of the token endpoint granted nothing, in the words its caller decides by.
///
/// The text of each variant may come from GHL, but never holds a token.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// GHL never saw the request: the refresh token is unspent.
    #[error("no connection to GHL")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// GHL may have spent the token: the request went out and no whole answer came back.
    #[error("the request was sent to GHL, but no whole answer came back")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// GHL granted something, and no access token can be read from its answer. The refresh token
    /// may be spent, so the answer is kept: a person, or a later version, may read it.
    #[error("GHL granted a token, but its answer cannot be read")]
    Unreadable {
        #[source]
        reason: Unintelligible,
        /// The body as it arrived.
        body: SecretSlice<u8>,
    },
    /// GHL granted a token of somebody else. It must not be filed under this installation. The
    /// refresh token may be spent.
    #[error("GHL answered with somebody else's token")]
    Foreign {
        #[source]
        mismatch: Mismatch,
        answer: Box<Answer>,
    },
    /// GHL answered that it cannot serve now: 429 or 5xx.
    #[error("GHL answered {status}")]
    Unavailable {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    /// The account is unpaid or paused. The refresh token is unspent and works again later.
    #[error("the location is not active at GHL")]
    LocationInactive,
    /// GHL does not know this client id and secret, or not for this token.
    #[error("GHL refused the client id and secret: {0}")]
    ClientRejected(String),
    /// GHL refused the code or refresh token: invalid, expired, revoked or already used.
    #[error("GHL refused the grant: {0}")]
    InvalidGrant(String),
    /// GHL did not understand the request: a fault of the settings or of this program.
    #[error("GHL answered {status}: {message}")]
    BadRequest { status: StatusCode, message: String },
}

impl Failure {
    /// Classifies an answer that is not a success.
    #[must_use]
    pub fn of(status: StatusCode, retry_after: Option<&str>, body: &[u8]) -> Self {
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Self::Unavailable {
                status,
                retry_after: retry_after.and_then(parse_retry_after),
            };
        }
        let said = Said::parse(body);
        let lower = said.message.to_ascii_lowercase();
        let has = |part: &str| lower.contains(part);
        if has("location is not active") || has("location is inactive") {
            Self::LocationInactive
        } else if has("client credentials")
            || has("client_id")
            || has("client secret")
            || said.error == "invalid_client"
        {
            Self::ClientRejected(said.message)
        } else if has("invalid grant")
            || has("invalid refresh token")
            || has("refresh token is invalid")
            || has("code is invalid")
            || has("code has expired")
            || said.error == "invalid_grant"
        {
            Self::InvalidGrant(said.message)
        } else {
            Self::BadRequest {
                status,
                message: said.message,
            }
        }
    }
}

/// What an error body says, in any of GHL's shapes: `{statusCode, message}`,
/// `{error, error_description}`, and that of API v3, `{error: {code, message, details, resolution}}`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// In lower case: API v3 has its codes in capitals.
    error: String,
    message: String,
}

impl Said {
    const LONGEST: usize = 300;

    fn parse(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_str::<Map<String, Value>>(&plain(body)) else {
            return Self {
                error: String::new(),
                message: "an answer that is not GHL's JSON".to_owned(),
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
            message: message.chars().take(Self::LONGEST).collect(),
        }
    }
}

/// A text, or several. `None` where there is none.
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

/// Seconds, or a date. A date is taken relative to this machine's clock: GHL sends no better one.
fn parse_retry_after(text: &str) -> Option<Duration> {
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
        match Failure::of(status, None, body.as_bytes()) {
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
    fn every_documented_answer_has_its_meaning() {
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
    fn only_a_clear_refusal_of_the_grant_is_terminal() {
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
    fn retry_after_is_seconds_or_a_date() {
        let wait = |text| match Failure::of(StatusCode::TOO_MANY_REQUESTS, Some(text), b"") {
            Failure::Unavailable { retry_after, .. } => retry_after,
            _ => None,
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_long_message_is_cut() {
        let body = format!(r#"{{"message":"{}"}}"#, "é".repeat(1000));
        assert_eq!(Said::parse(body.as_bytes()).message.chars().count(), 300);
    }
}
