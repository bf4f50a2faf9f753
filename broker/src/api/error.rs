//! The broker's errors as HTTP responses. They have the shape of GHL's errors, so that clients of GHL can
//! read them. Below `/v1` they are problem details (RFC 9457) besides.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use service::error_body::{ErrorBody, Shape};
use service::origin::ForeignRequest;
use service::receive::ReceiveError;
use store::ReadError;
use store::record::Unreadable;
use store_writer::WriteError;
use tracing::warn;

use crate::apps::NoApp;

/// An error response: what is wrong and what to do.
#[derive(Debug)]
pub(crate) struct Error {
    pub kind: ErrorKind,
    pub message: String,
    pub hint: Option<&'static str>,
    /// Sent with a 429 and a 503 in whole seconds, at least one.
    retry_after: Duration,
}

/// The kinds of errors. Each kind has one status and one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    RequestInvalid,
    BodyTooLarge,
    ContentTypeUnsupported,
    RouteNotFound,
    MethodNotAllowed,
    HostNotAllowed,
    CrossSiteRequest,
    KeyMissing,
    KeyInvalid,
    ScopeMissing,
    KeyNotFound,
    SealingKeyNotFound,
    /// Records may be sealed with the key, or a ring has it.
    SealingKeyNeeded,
    InstallationNotFound,
    /// A location or company has the app under several names, and the request names none.
    AppAmbiguous,
    /// A consent is worth more than a token that a person made.
    TokenNotStored,
    /// The name of an app with installations is not freed.
    AppInUse,
    /// The settings have no app of this name.
    AppUnknown,
    /// A browser key for more than its issuer may do.
    CallNotAllowed,
    /// The settings have no shared secret of the app.
    SsoKeyMissing,
    /// A user context that cannot be opened, for any reason.
    SsoContextInvalid,
    /// The consent ended without a code.
    ConsentDenied,
    ConsentStateInvalid,
    /// GHL accepts neither the code nor the grant.
    ConsentRejected,
    ConsentFailed,
    /// GHL's response lacks what an installation needs.
    ConsentResponseUnusable,
    ConsentPending,
    ConsentNotStored,
    /// A one-time link that nobody has made, or that is over.
    ConnectLinkUnknown,
    /// The customer connected another account than the link was for.
    OtherOwner,
    /// Another installation has the external id.
    ExternalIdTaken,
    /// The settings have no endpoint of this id.
    EndpointUnknown,
    /// A browser is not sent to this address.
    ReturnUrlRefused,
    WebhookSignatureInvalid,
    BodyIncomplete,
    BodyTimeout,
    Overloaded,
    RateLimited,
    /// The gateway's own credential, derived from the access keys.
    RefreshNotAllowed,
    /// As above, for a report to the audit log.
    ReportNotAllowed,
    RefreshInstallationUnknown,
    /// None of the agencies has the location.
    LocationUnknown,
    RefreshNotPossible,
    RefreshRejected,
    RefreshFailed,
    RefreshInProgress,
    RefreshBackingOff,
    RefreshNotStored,
    RefreshPaused,
    /// The store, the lock nodes or the disk do not allow to spend a token.
    RefreshUnavailable,
    BrokerStopping,
    StoreUnavailable,
    RecordUnreadable,
    RecordUnwritable,
}

impl ErrorKind {
    /// The code is stable, for programs. `docs/errors.md` lists them all.
    const fn status_and_code(self) -> (StatusCode, &'static str) {
        match self {
            Self::RequestInvalid => (StatusCode::BAD_REQUEST, "request_invalid"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::ContentTypeUnsupported => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type_unsupported",
            ),
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "route_not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::HostNotAllowed => (StatusCode::FORBIDDEN, "host_not_allowed"),
            Self::CrossSiteRequest => (StatusCode::FORBIDDEN, "cross_site_request"),
            Self::KeyMissing => (StatusCode::UNAUTHORIZED, "api_key_missing"),
            Self::KeyInvalid => (StatusCode::UNAUTHORIZED, "api_key_invalid"),
            Self::ScopeMissing => (StatusCode::FORBIDDEN, "api_key_scope_missing"),
            Self::KeyNotFound => (StatusCode::NOT_FOUND, "api_key_not_found"),
            Self::SealingKeyNotFound => (StatusCode::NOT_FOUND, "sealing_key_not_found"),
            Self::SealingKeyNeeded => (StatusCode::CONFLICT, "sealing_key_needed"),
            Self::InstallationNotFound => (StatusCode::BAD_REQUEST, "installation_not_found"),
            Self::AppAmbiguous => (StatusCode::BAD_REQUEST, "app_ambiguous"),
            Self::TokenNotStored => (StatusCode::CONFLICT, "token_not_stored"),
            Self::AppInUse => (StatusCode::CONFLICT, "app_in_use"),
            Self::AppUnknown => (StatusCode::BAD_REQUEST, "app_unknown"),
            Self::CallNotAllowed => (StatusCode::FORBIDDEN, "call_not_allowed"),
            Self::SsoKeyMissing => (StatusCode::CONFLICT, "sso_key_missing"),
            Self::SsoContextInvalid => (StatusCode::BAD_REQUEST, "sso_context_invalid"),
            Self::ConsentDenied => (StatusCode::BAD_REQUEST, "consent_denied"),
            Self::ConsentStateInvalid => (StatusCode::BAD_REQUEST, "consent_state_invalid"),
            Self::ConsentRejected => (StatusCode::BAD_REQUEST, "consent_rejected"),
            Self::ConsentFailed => (StatusCode::BAD_GATEWAY, "consent_failed"),
            Self::ConsentResponseUnusable => (StatusCode::BAD_GATEWAY, "consent_response_unusable"),
            Self::ConsentPending => (StatusCode::GATEWAY_TIMEOUT, "consent_pending"),
            Self::ConsentNotStored => (StatusCode::SERVICE_UNAVAILABLE, "consent_not_stored"),
            Self::ConnectLinkUnknown => (StatusCode::GONE, "connect_link_unknown"),
            Self::OtherOwner => (StatusCode::CONFLICT, "other_account"),
            Self::ExternalIdTaken => (StatusCode::CONFLICT, "external_id_taken"),
            Self::EndpointUnknown => (StatusCode::NOT_FOUND, "endpoint_unknown"),
            Self::ReturnUrlRefused => (StatusCode::BAD_REQUEST, "return_url_refused"),
            Self::WebhookSignatureInvalid => {
                (StatusCode::UNAUTHORIZED, "webhook_signature_invalid")
            }
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, "body_incomplete"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_requests_in_progress",
            ),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "request_rate_exceeded"),
            Self::RefreshNotAllowed => (StatusCode::UNAUTHORIZED, "refresh_not_allowed"),
            Self::ReportNotAllowed => (StatusCode::UNAUTHORIZED, "report_not_allowed"),
            Self::RefreshInstallationUnknown => (StatusCode::CONFLICT, "installation_unknown"),
            Self::LocationUnknown => (StatusCode::NOT_FOUND, "location_unknown"),
            Self::RefreshNotPossible => (StatusCode::CONFLICT, "refresh_not_possible"),
            Self::RefreshRejected => (StatusCode::CONFLICT, "refresh_rejected"),
            Self::RefreshFailed => (StatusCode::SERVICE_UNAVAILABLE, "refresh_failed"),
            Self::RefreshInProgress => (StatusCode::SERVICE_UNAVAILABLE, "refresh_in_progress"),
            Self::RefreshBackingOff => (StatusCode::SERVICE_UNAVAILABLE, "refresh_backing_off"),
            Self::RefreshNotStored => (StatusCode::SERVICE_UNAVAILABLE, "refresh_not_stored"),
            Self::RefreshPaused => (StatusCode::SERVICE_UNAVAILABLE, "refresh_paused"),
            Self::RefreshUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "refresh_unavailable"),
            Self::BrokerStopping => (StatusCode::SERVICE_UNAVAILABLE, "broker_stopping"),
            Self::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::RecordUnreadable => (StatusCode::INTERNAL_SERVER_ERROR, "record_unreadable"),
            Self::RecordUnwritable => (StatusCode::INTERNAL_SERVER_ERROR, "record_unwritable"),
        }
    }
}

impl ErrorKind {
    /// The stable code.
    pub(crate) const fn code(self) -> &'static str {
        self.status_and_code().1
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retry_after: Duration::from_secs(1),
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(ErrorKind::InstallationNotFound, "Installation not found")
            .with_hint("name it by installation_id, or install the app at /oauth/install")
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::RequestInvalid, message)
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.kind.status_and_code().0
    }

    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        self.kind.code()
    }

    pub(crate) fn retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after,
            ..self
        }
    }

    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.kind.status_and_code();
        let body = ErrorBody {
            hint: self.hint,
            ..ErrorBody::new(status, code, self.message)
        };
        let mut response = body.clone().into_response(Shape::Ghl);
        // For the middleware, which knows the path.
        response.extensions_mut().insert(body);
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            let seconds = self.retry_after.as_secs().max(1);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Middleware that gives each error the shape of its path.
pub(crate) async fn shaped(request: Request, next: Next) -> Response {
    let shape = Shape::of(request.uri().path());
    let mut response = next.run(request).await;
    if let Some(body) = response.extensions_mut().remove::<ErrorBody>() {
        body.write(&mut response, shape);
    }
    response
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match &error {
            WriteError::Unknown(_) => Self::not_found(),
            WriteError::Unavailable(_)
            | WriteError::Refused(_)
            | WriteError::Contended(_)
            | WriteError::Unconfirmed(_) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a request failed because of the store"
                );
                Self::new(
                    ErrorKind::StoreUnavailable,
                    "The store is unavailable, try again",
                )
            }
            WriteError::Unreadable { source, .. } => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a record cannot be read"
                );
                Self::new(ErrorKind::RecordUnreadable, error.to_string()).with_hint(remedy(source))
            }
            WriteError::Unwritable { .. } => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a record was not written"
                );
                Self::new(ErrorKind::RecordUnwritable, error.to_string())
            }
        }
    }
}

impl From<NoApp> for Error {
    fn from(no_app: NoApp) -> Self {
        match no_app {
            NoApp::Unknown => Self::new(ErrorKind::AppUnknown, "There is no app of this name")
                .with_hint("name one of `evergreen apps list`"),
            NoApp::Unnamed => {
                let message = "There are several apps, and none is called `default`";
                Self::new(ErrorKind::AppUnknown, message).with_hint("name one with `app`")
            }
            NoApp::NotOfKey => Self::new(ErrorKind::ScopeMissing, "This key is for another app")
                .with_hint("use a key of this app, or one for all apps"),
        }
    }
}

impl From<ForeignRequest> for Error {
    fn from(foreign: ForeignRequest) -> Self {
        let kind = match foreign {
            ForeignRequest::Host => ErrorKind::HostNotAllowed,
            ForeignRequest::Origin | ForeignRequest::CrossSite => ErrorKind::CrossSiteRequest,
        };
        Self::new(kind, foreign.to_string())
    }
}

impl From<ReceiveError> for Error {
    fn from(error: ReceiveError) -> Self {
        let kind = match error {
            ReceiveError::TooLarge(_) => ErrorKind::BodyTooLarge,
            ReceiveError::Busy => ErrorKind::Overloaded,
            ReceiveError::Late => ErrorKind::BodyTimeout,
            ReceiveError::Broken => ErrorKind::BodyIncomplete,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        warn!(
            error = &error as &dyn std::error::Error,
            "a request failed because of the store"
        );
        Self::new(
            ErrorKind::StoreUnavailable,
            "The store is unavailable, try again",
        )
    }
}

/// The operator's next step for a record that cannot be read.
pub(crate) const fn remedy(source: &Unreadable) -> &'static str {
    match source {
        Unreadable::TooNew(_) => "update this replica",
        Unreadable::Sealed(_) => {
            "put the missing key back into EVERGREEN_ACCESS_KEYS or EVERGREEN_REFRESH_KEYS"
        }
        Unreadable::Missing(_) | Unreadable::Malformed(_) => {
            "let the customer connect again at /oauth/install: that replaces the record"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_error_maps_to_its_status() {
        let away = || Box::new(std::io::Error::other("x"));
        let id = store::InstallationId::random();
        let cases = [
            (WriteError::Unavailable(away()), 503),
            (WriteError::Refused(away()), 503),
            (WriteError::Contended(id.clone()), 503),
            (WriteError::Unconfirmed(id.clone()), 503),
            (WriteError::Unknown(id.clone()), 400),
            (
                WriteError::Unwritable {
                    id: id.clone(),
                    source: store::record::Unreadable::Malformed("life"),
                },
                500,
            ),
            (
                WriteError::Unreadable {
                    id,
                    source: store::record::Unreadable::Missing("gen"),
                },
                500,
            ),
        ];
        for (error, status) in cases {
            assert_eq!(Error::from(error).status().as_u16(), status);
        }
    }
}
