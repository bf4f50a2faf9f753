//! Error responses. This is the only place where errors become HTTP.
//!
//! The body has the shape of GHL's errors, so that GHL's SDKs can read it, and some additional members. Below `/v1` it is
//! problem details (RFC 9457) besides.
//! `docs/errors.md` lists every code.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use service::error_body::{ErrorBody, Shape};
use service::origin::ForeignRequest;
use service::receive::ReceiveError;
use store::{AppName, InstallationId};

use crate::admission::concurrency::Overloaded;
use crate::admission::limited::Limited;
use crate::error::Error;
use crate::pipeline::select::SelectError;
use crate::request::caller::CallerError;
use crate::token::freshness::Refusal;
use crate::token::provider::TokenError;
use crate::upstream::body::BodyError;
use crate::upstream::{Kind, Peer};

/// The path on the public origin where an installation is connected.
const INSTALL_PATH: &str = "/oauth/install";

fn install_path(app: &AppName) -> Cow<'static, str> {
    match app.is_default() {
        true => INSTALL_PATH.into(),
        false => format!("{INSTALL_PATH}?app={app}").into(),
    }
}

const HOW_TO_NAME: &str = "Name the installation in the header X-Installation-Id or in the query \
    as installation_id (an install_… id, or its location's or company's id), or name its location \
    as locationId; GET /oauth/install connects a new one.";

/// The status and the stable code of an error.
fn status_and_code(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::Caller(error) => match error {
            CallerError::NoKey => (StatusCode::UNAUTHORIZED, "api_key_missing"),
            CallerError::UnknownKey => (StatusCode::UNAUTHORIZED, "api_key_invalid"),
            CallerError::BrowserKeyExpired => (StatusCode::UNAUTHORIZED, "browser_key_expired"),
            CallerError::OriginNotAllowed => (StatusCode::FORBIDDEN, "origin_not_allowed"),
            CallerError::LacksScope(_) => (StatusCode::FORBIDDEN, "api_key_scope_missing"),
            CallerError::CallNotAllowed { .. } => (StatusCode::FORBIDDEN, "call_not_allowed"),
            CallerError::Quota(limited) => limited_code(limited),
            CallerError::Store(_) | CallerError::Stale => STORE_UNAVAILABLE,
        },
        Error::Foreign(ForeignRequest::Host) => (StatusCode::FORBIDDEN, "host_not_allowed"),
        Error::Foreign(ForeignRequest::Origin | ForeignRequest::CrossSite) => {
            (StatusCode::FORBIDDEN, "cross_site_request")
        }
        Error::AnonymousRate(_) => (StatusCode::TOO_MANY_REQUESTS, "request_rate_exceeded"),
        Error::Receive(error) => match error {
            ReceiveError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            ReceiveError::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_requests_in_progress",
            ),
            ReceiveError::Late => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            ReceiveError::Broken => (StatusCode::BAD_REQUEST, "body_incomplete"),
        },
        Error::Unsigned => (StatusCode::UNAUTHORIZED, "webhook_signature_invalid"),
        Error::ContentType => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type_unsupported",
        ),
        Error::Select(error) => match error {
            SelectError::NotNamed => (StatusCode::BAD_REQUEST, "installation_not_named"),
            SelectError::Unknown { .. } => INSTALLATION_NOT_FOUND,
            SelectError::BodyNotExamined(_) => (StatusCode::BAD_REQUEST, "body_not_examined"),
            SelectError::Ambiguous { .. } => (StatusCode::BAD_REQUEST, "app_ambiguous"),
            SelectError::NotAllowed => (StatusCode::FORBIDDEN, "installation_not_allowed"),
            SelectError::Contradiction(_) => (StatusCode::BAD_REQUEST, "installation_conflict"),
            SelectError::NotLookedUp(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "location_not_looked_up")
            }
            SelectError::Store(_) => STORE_UNAVAILABLE,
        },
        Error::Token(error) => match error {
            TokenError::Gone => INSTALLATION_NOT_FOUND,
            TokenError::Refused { why, .. } => match why {
                Refusal::Invalid => (StatusCode::BAD_REQUEST, "installation_invalid"),
                Refusal::Revoked => (StatusCode::BAD_REQUEST, "installation_revoked"),
                Refusal::Inactive => (StatusCode::BAD_REQUEST, "location_inactive"),
            },
            TokenError::NoFreshToken(_) => (StatusCode::SERVICE_UNAVAILABLE, "token_unavailable"),
            TokenError::Overloaded(overloaded) => overloaded_code(*overloaded),
            TokenError::Store(_) => STORE_UNAVAILABLE,
        },
        Error::Limited(limited) => limited_code(limited),
        Error::Overloaded(overloaded) => overloaded_code(*overloaded),
        Error::Body(error) => match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            BodyError::Broke => (StatusCode::BAD_REQUEST, "body_incomplete"),
            BodyError::Stalled => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
        },
        Error::Upstream(failure) => match (failure.peer, failure.kind) {
            (Peer::Ghl, Kind::Unreachable) => (StatusCode::BAD_GATEWAY, "ghl_unreachable"),
            (Peer::Ghl, Kind::ConnectionLost) => (StatusCode::BAD_GATEWAY, "ghl_connection_lost"),
            (Peer::Ghl, Kind::Malformed) => (StatusCode::BAD_GATEWAY, "ghl_malformed_response"),
            (Peer::Ghl, Kind::ConnectTimeout) => {
                (StatusCode::GATEWAY_TIMEOUT, "ghl_connect_timeout")
            }
            (Peer::Ghl, Kind::ResponseTimeout) => (StatusCode::GATEWAY_TIMEOUT, "ghl_timeout"),
            (Peer::Broker, Kind::Unreachable) => (StatusCode::BAD_GATEWAY, "broker_unreachable"),
            (Peer::Broker, Kind::ConnectionLost) => {
                (StatusCode::BAD_GATEWAY, "broker_connection_lost")
            }
            (Peer::Broker, Kind::Malformed) => {
                (StatusCode::BAD_GATEWAY, "broker_malformed_response")
            }
            (Peer::Broker, Kind::ConnectTimeout) => {
                (StatusCode::GATEWAY_TIMEOUT, "broker_connect_timeout")
            }
            (Peer::Broker, Kind::ResponseTimeout) => {
                (StatusCode::GATEWAY_TIMEOUT, "broker_timeout")
            }
        },
        Error::TokenRefreshed => (StatusCode::SERVICE_UNAVAILABLE, "token_refreshed"),
        Error::NoLocation | Error::McpWithoutLocation => {
            (StatusCode::BAD_REQUEST, "location_not_named")
        }
        Error::NothingToTest => (StatusCode::BAD_REQUEST, "nothing_to_test"),
        Error::Path(_) => (StatusCode::BAD_REQUEST, "path_not_forwardable"),
        Error::Uri(_) => (StatusCode::BAD_REQUEST, "uri_invalid"),
        Error::Json(_) => (StatusCode::BAD_REQUEST, "body_not_json_object"),
        Error::MinTtl(_) => (StatusCode::BAD_REQUEST, "min_ttl_invalid"),
        Error::LogLevel(_) | Error::NoLogLevel(_) => (StatusCode::BAD_REQUEST, "request_invalid"),
        Error::RefusedGeneration => (StatusCode::BAD_REQUEST, "refused_invalid"),
        Error::Timeout => (StatusCode::BAD_REQUEST, "request_timeout_invalid"),
        Error::NoRoute { .. } => (StatusCode::NOT_FOUND, "route_not_found"),
        Error::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
    }
}

const STORE_UNAVAILABLE: (StatusCode, &str) =
    (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
const INSTALLATION_NOT_FOUND: (StatusCode, &str) =
    (StatusCode::BAD_REQUEST, "installation_not_found");

fn overloaded_code(overloaded: Overloaded) -> (StatusCode, &'static str) {
    match overloaded {
        Overloaded::Gateway => (StatusCode::SERVICE_UNAVAILABLE, "gateway_overloaded"),
        Overloaded::Key => (StatusCode::TOO_MANY_REQUESTS, "key_concurrency_exceeded"),
    }
}

fn limited_code(limited: &Limited) -> (StatusCode, &'static str) {
    let code = match limited {
        Limited::Interval { .. } => "rate_limited",
        Limited::Full { .. } => "rate_limit_queue_full",
        Limited::Day { .. } => "daily_limit_reached",
        Limited::Quota { .. } => "quota_exceeded",
    };
    (StatusCode::TOO_MANY_REQUESTS, code)
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        status_and_code(self).0
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        status_and_code(self).1
    }

    /// The limit that was exceeded.
    pub(crate) fn limited(&self) -> Option<&Limited> {
        match self {
            Self::Limited(limited) | Self::Caller(CallerError::Quota(limited)) => Some(limited),
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Caller(CallerError::NoKey | CallerError::UnknownKey) => Some(
                "Send a key of this gateway as `Authorization: Bearer <key>` or `X-Api-Key`; \
                 `evergreen keys create` makes one.",
            ),
            Self::Caller(CallerError::BrowserKeyExpired) => Some(
                "Get a new one from your backend, which asks for it with POST /v1/browser-keys.",
            ),
            Self::Caller(CallerError::OriginNotAllowed) => Some(
                "Send the key from a page of the origin that it was made for, or make it without one.",
            ),
            Self::Caller(CallerError::LacksScope(_) | CallerError::CallNotAllowed { .. })
            | Self::Select(SelectError::NotAllowed) => {
                Some("`evergreen keys list` shows what a key may do.")
            }
            Self::Select(SelectError::NotNamed | SelectError::Unknown { .. })
            | Self::Token(TokenError::Gone) => Some(HOW_TO_NAME),
            Self::Select(SelectError::Ambiguous { .. }) => Some(
                "Name the app in the header X-Evergreen-App, name the installation by its own id, or use a key that is \
                 for one app (`evergreen keys create --app`).",
            ),
            Self::Select(SelectError::BodyNotExamined(_)) => Some(
                "Name the installation in the header X-Installation-Id. The gateway examines JSON of up to 256 KiB and \
                 the first 64 KiB of a form, uncompressed or as gzip.",
            ),
            Self::Select(SelectError::Contradiction(_)) => {
                Some("Name one installation, in one place.")
            }
            Self::Token(TokenError::Refused { why, .. }) => Some(match why {
                Refusal::Invalid | Refusal::Revoked => {
                    "Have the customer open the `reconnect` path: the installation keeps its id."
                }
                Refusal::Inactive => "It works again once the location is active again.",
            }),
            Self::NoRoute { .. } => Some("GHL's own paths are under /ghl, such as /ghl/contacts/."),
            Self::TokenRefreshed => Some(
                "Bodies of up to 64 KiB with a Content-Length are sent again by the gateway itself.",
            ),
            Self::Limited(Limited::Interval { .. }) => Some(
                "A call waits for the rate limit as long as its header X-Request-Timeout says, \
                 such as 15s, or else EVERGREEN_QUEUE_TIMEOUT.",
            ),
            Self::Limited(Limited::Quota { .. }) | Self::Caller(CallerError::Quota(_)) => Some(
                "This is not GHL's limit. It was set with `evergreen keys create --quota` when the key \
                 was made.",
            ),
            Self::Foreign(ForeignRequest::Host) => {
                Some("Name this host in EVERGREEN_ALLOWED_HOSTS if it is one of yours.")
            }
            Self::Foreign(ForeignRequest::Origin | ForeignRequest::CrossSite) => Some(
                "Call from a server, with a key. Web pages can call GHL if EVERGREEN_CORS_ORIGINS lists their \
                     origin.",
            ),
            Self::McpWithoutLocation => Some("Name the location in the header locationId."),
            Self::ContentType => Some("Send Content-Type: application/json."),
            Self::Limited(Limited::Full { .. } | Limited::Day { .. })
            | Self::Caller(CallerError::Store(_) | CallerError::Stale)
            | Self::Select(SelectError::Store(_) | SelectError::NotLookedUp(_))
            | Self::Token(
                TokenError::NoFreshToken(_) | TokenError::Overloaded(_) | TokenError::Store(_),
            )
            | Self::Timeout
            | Self::NoLocation
            | Self::NothingToTest
            | Self::Path(_)
            | Self::Uri(_)
            | Self::Json(_)
            | Self::MinTtl(_)
            | Self::LogLevel(_)
            | Self::NoLogLevel(_)
            | Self::RefusedGeneration
            | Self::Body(_)
            | Self::WrongMethod { .. }
            | Self::AnonymousRate(_)
            | Self::Receive(_)
            | Self::Unsigned
            | Self::Overloaded(_)
            | Self::Upstream(_) => None,
        }
    }

    /// Whole seconds, at least one, until the request may be sent again.
    fn retry_after(&self) -> Option<u64> {
        let after = match (self, self.limited()) {
            (Self::AnonymousRate(after), _) => *after,
            (_, Some(limited)) => limited.retry_after(),
            (Self::Overloaded(_), None) => Duration::from_secs(1),
            (_, None) if self.status() == StatusCode::SERVICE_UNAVAILABLE => Duration::from_secs(1),
            (_, None) => return None,
        };
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Some(seconds.max(1))
    }

    /// The installation that its customer has to connect again, and its app.
    fn to_reconnect(&self) -> Option<(&InstallationId, &AppName)> {
        match self {
            Self::Token(TokenError::Refused {
                id,
                app,
                why: Refusal::Invalid | Refusal::Revoked,
            }) => Some((id, app)),
            _ => None,
        }
    }
}

impl Error {
    /// The response, in the shape of the errors of its path.
    pub(crate) fn respond(self, shape: Shape) -> Response {
        let (status, code) = status_and_code(&self);
        let to_reconnect = self.to_reconnect();
        let body = ErrorBody {
            hint: self.hint(),
            reconnect: to_reconnect.map(|(_, app)| install_path(app).into_owned()),
            installation_id: to_reconnect.map(|(id, _)| id.to_string()),
            limit: self.limited().map(Limited::limit),
            ..ErrorBody::new(status, code, self.to_string())
        };
        let mut response = body.into_response(shape);
        if let Some(seconds) = self.retry_after() {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.respond(Shape::Ghl)
    }
}

/// A JSON response.
pub(crate) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    // A map with text keys cannot fail to serialize, and all our bodies are such maps.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// An error with all its causes, for the log.
pub(crate) struct ErrorChain<'e>(pub(crate) &'e Error);

impl fmt::Display for ErrorChain<'_> {
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
mod tests;
