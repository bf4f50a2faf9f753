//! Everything that can keep a request from being forwarded, and what its caller is told: the one
//! place where errors become HTTP.
//!
//! The body has GHL's own shape, so that GHL's SDKs read it, and some members more.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode, uri};
use serde::Serialize;
use store::{InstallationId, Scope};

use crate::cache::Unavailable;
use crate::guard::Refusal;
use crate::installation::Contradiction;
use crate::json::NotAnObject;
use crate::limits::Limited;
use crate::path::Escape;
use crate::upstream::{Failure, Kind};

/// Where an installation is connected, on the public origin.
const INSTALL_PATH: &str = "/oauth/install";

const HOW_TO_NAME: &str = "Name the installation in the header X-Installation-Id or in the query \
    as installation_id (an install_… id, or its location's or company's id), or name its location \
    as locationId; GET /oauth/install connects a new one.";

/// Why a request ends here. The text is what the caller reads, so nothing secret is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Missing API key")]
    NoKey,
    #[error("Invalid API key")]
    UnknownKey,
    #[error("The API key lacks the scope {0}")]
    LacksScope(Scope),
    #[error("The API key is not for this installation")]
    NotAllowed,

    #[error("Installation not found")]
    NotFound,
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error("{}", refusal(*.why))]
    Refused { id: InstallationId, why: Refusal },
    #[error("The installation is an agency's: name one of its locations as locationId")]
    NoLocation,
    #[error("The installation has neither a location nor a company to test")]
    NothingToTest,

    #[error(transparent)]
    Path(#[from] Escape),
    #[error("The path or the query cannot be forwarded")]
    Uri(#[from] uri::InvalidUri),
    #[error(transparent)]
    Json(#[from] NotAnObject),
    #[error("{0}")]
    MinTtl(String),
    #[error("The body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("The body broke off")]
    BodyBroke,
    #[error("The body did not arrive in time")]
    BodyStalled,
    #[error("X-Request-Timeout must be a duration with its unit, such as 15s")]
    Timeout,

    #[error(transparent)]
    Limited(#[from] Limited),

    #[error("Cannot find {method} {path}")]
    NoRoute { method: String, path: String },
    #[error("{path} does not take {method}")]
    WrongMethod { method: String, path: String },

    #[error("The token store cannot answer")]
    StoreAway(#[source] Unavailable),
    #[error("The access token has expired and no fresh one could be had yet")]
    NoFreshToken,
    #[error("The gateway has too much to do")]
    Overloaded,
    #[error("The access token was refreshed: send the request again")]
    SendAgain,
    #[error(transparent)]
    Upstream(#[from] Failure),
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoKey | Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::LacksScope(_) | Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound
            | Self::Contradiction(_)
            | Self::Refused { .. }
            | Self::NoLocation
            | Self::NothingToTest
            | Self::Path(_)
            | Self::Uri(_)
            | Self::Json(_)
            | Self::MinTtl(_)
            | Self::BodyBroke
            | Self::Timeout => StatusCode::BAD_REQUEST,
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreAway(_) | Self::NoFreshToken | Self::SendAgain | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Upstream(failure) => match failure.kind {
                Kind::Unreachable | Kind::Broken | Kind::Malformed => StatusCode::BAD_GATEWAY,
                Kind::ConnectTimeout | Kind::Silent => StatusCode::GATEWAY_TIMEOUT,
            },
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoKey | Self::UnknownKey => Some(
                "Send a key of this gateway as `Authorization: Bearer <key>` or `X-Api-Key`; \
                 `evergreen keys create` makes one.",
            ),
            Self::LacksScope(_) | Self::NotAllowed => {
                Some("`evergreen keys list` shows what a key may do.")
            }
            Self::NotFound => Some(HOW_TO_NAME),
            Self::Contradiction(_) => Some("Name one installation, in one place."),
            Self::Refused { why, .. } => Some(match why {
                Refusal::Invalid | Refusal::Revoked => {
                    "Have the customer open the `reconnect` path: the installation keeps its id."
                }
                Refusal::Inactive => "It works again once the location is active again.",
            }),
            Self::NoRoute { .. } => Some("GHL's own paths are under /ghl, such as /ghl/contacts/."),
            Self::SendAgain => Some(
                "Bodies of up to 64 KiB with a Content-Length are sent again by the gateway itself.",
            ),
            Self::Limited(Limited::Interval { .. }) => Some(
                "A call waits for its turn for as long as its header X-Request-Timeout says, \
                 such as 15s, or else EVERGREEN_QUEUE_TIMEOUT.",
            ),
            Self::Limited(Limited::Quota { .. }) => Some(
                "That is not GHL's limit: whoever made the key set it with \
                 `evergreen keys create --quota`.",
            ),
            Self::Limited(Limited::Full { .. } | Limited::Day { .. })
            | Self::Timeout
            | Self::NoLocation
            | Self::NothingToTest
            | Self::Path(_)
            | Self::Uri(_)
            | Self::Json(_)
            | Self::MinTtl(_)
            | Self::TooLarge { .. }
            | Self::BodyBroke
            | Self::BodyStalled
            | Self::WrongMethod { .. }
            | Self::StoreAway(_)
            | Self::NoFreshToken
            | Self::Overloaded
            | Self::Upstream(_) => None,
        }
    }

    /// Whole seconds, at least one, until it may be worth to send the request again.
    fn retry_after(&self) -> Option<u64> {
        let after = match self {
            Self::Limited(limited) => limited.retry_after(),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Duration::from_secs(1),
            _ => return None,
        };
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Some(seconds.max(1))
    }

    /// The installation that only its customer can bring back.
    fn to_reconnect(&self) -> Option<&InstallationId> {
        match self {
            Self::Refused {
                id,
                why: Refusal::Invalid | Refusal::Revoked,
            } => Some(id),
            _ => None,
        }
    }
}

impl From<Unavailable> for Error {
    fn from(reason: Unavailable) -> Self {
        Self::StoreAway(reason)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let to_reconnect = self.to_reconnect();
        let body = Shape {
            status_code: status.as_u16(),
            message: self.to_string(),
            error: status.canonical_reason().unwrap_or("Error"),
            hint: self.hint(),
            reconnect: to_reconnect.map(|_| INSTALL_PATH),
            installation_id: to_reconnect.map(InstallationId::as_str),
            limit: match &self {
                Self::Limited(limited) => Some(limited.limit()),
                _ => None,
            },
        };
        let mut response = respond(status, &body);
        if let Some(seconds) = self.retry_after() {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    // A map with text keys, as all of ours are, cannot fail to serialize.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[derive(Serialize)]
struct Shape<'e> {
    #[serde(rename = "statusCode")]
    status_code: u16,
    message: String,
    error: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reconnect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    installation_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
}

fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::Invalid => "GHL no longer accepts this installation's grant: reconnect it",
        Refusal::Revoked => "The app was uninstalled: reconnect the installation",
        Refusal::Inactive => "The location is not active at GHL",
    }
}

/// An error with all that caused it, for the log.
pub(crate) struct Chain<'e>(pub(crate) &'e Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::Peer;

    fn refused(why: Refusal) -> Error {
        let id = "install_00112233445566778899aabb".parse().unwrap();
        Error::Refused { id, why }
    }

    fn late(retry_after_ms: u64) -> Limited {
        Limited::Interval {
            max: 100,
            interval: Duration::from_secs(10),
            retry_after: Duration::from_millis(retry_after_ms),
        }
    }

    fn failed(kind: Kind) -> Error {
        Error::Upstream(Failure {
            peer: Peer::Ghl,
            kind,
            source: None,
        })
    }

    #[test]
    fn every_error_has_its_status() {
        let store = Unavailable {
            is_away: true,
            source: Arc::new(io::Error::other("refused")),
        };
        let none = String::new;
        for (error, status) in [
            (Error::NoKey, 401),
            (Error::UnknownKey, 401),
            (Error::LacksScope(Scope::Tokens), 403),
            (Error::NotAllowed, 403),
            (Error::NotFound, 400),
            (refused(Refusal::Invalid), 400),
            (refused(Refusal::Revoked), 400),
            (refused(Refusal::Inactive), 400),
            (Error::NoLocation, 400),
            (Error::NothingToTest, 400),
            (Error::Path(Escape), 400),
            (Error::Json(NotAnObject), 400),
            (Error::MinTtl(none()), 400),
            (Error::BodyBroke, 400),
            (
                Error::NoRoute {
                    method: none(),
                    path: none(),
                },
                404,
            ),
            (
                Error::WrongMethod {
                    method: none(),
                    path: none(),
                },
                405,
            ),
            (Error::Timeout, 400),
            (Error::BodyStalled, 408),
            (Error::TooLarge { limit: 1 }, 413),
            (Error::Limited(late(1)), 429),
            (failed(Kind::Unreachable), 502),
            (failed(Kind::Broken), 502),
            (failed(Kind::Malformed), 502),
            (Error::StoreAway(store), 503),
            (Error::NoFreshToken, 503),
            (Error::SendAgain, 503),
            (Error::Overloaded, 503),
            (failed(Kind::ConnectTimeout), 504),
            (failed(Kind::Silent), 504),
        ] {
            let text = error.to_string();
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status, "{text}");
            let has_retry = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(has_retry, matches!(status, 429 | 503), "{text}");
        }
    }

    async fn body(error: Error) -> Value {
        let body = error.into_response().into_body();
        serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn the_body_has_ghls_shape() {
        let expected = json!({
            "statusCode": 400,
            "message": "Installation not found",
            "error": "Bad Request",
            "hint": HOW_TO_NAME,
        });
        assert_eq!(body(Error::NotFound).await, expected);
    }

    #[tokio::test]
    async fn who_is_too_much_is_told_which_limit_and_when_to_come_again() {
        let day = Limited::Day {
            retry_after: Duration::from_secs(3600),
        };
        let full = Limited::Full {
            retry_after: Duration::from_secs(200),
        };
        let quota = Limited::Quota {
            quota: "5/20s".parse().unwrap(),
            retry_after: Duration::from_millis(3999),
        };
        assert!(quota.to_string().contains("5/20s"), "{quota}");
        for (limited, limit, seconds) in [
            (late(2001), "interval", "3"),
            (late(0), "interval", "1"),
            (full, "interval", "200"),
            (day, "day", "3600"),
            (quota, "quota", "4"),
        ] {
            let response = Error::Limited(limited).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds, "{limited}");
            let body = body(Error::Limited(limited)).await;
            assert_eq!(body["limit"], limit, "{body}");
            assert_eq!(body["statusCode"], 429);
        }
        let text = late(1).to_string();
        assert!(text.contains("100 calls per 10s"), "{text}");
    }

    #[tokio::test]
    async fn who_must_reconnect_is_told_where() {
        for (why, path) in [
            (Refusal::Invalid, json!("/oauth/install")),
            (Refusal::Revoked, json!("/oauth/install")),
            (Refusal::Inactive, Value::Null),
        ] {
            assert_eq!(body(refused(why)).await["reconnect"], path);
        }
    }

    #[test]
    fn the_log_has_the_causes_and_the_caller_has_not() {
        let cause = io::Error::other("10.0.0.7 refused");
        let error = Error::Upstream(Failure {
            peer: Peer::Broker,
            kind: Kind::Unreachable,
            source: Some(Box::new(cause)),
        });
        assert_eq!(error.to_string(), "The broker cannot be reached");
        assert_eq!(
            Chain(&error).to_string(),
            "The broker cannot be reached: 10.0.0.7 refused"
        );
    }
}
