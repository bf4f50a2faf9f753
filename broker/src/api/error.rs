//! The broker's errors as HTTP responses. They have the shape of GHL's errors, so that clients of GHL can
//! read them.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::json;
use store::ReadError;
use store::record::Unreadable;
use store_writer::WriteError;
use tracing::warn;

/// An error response: what is wrong and what to do.
#[derive(Debug)]
pub(crate) struct Error {
    pub status: StatusCode,
    pub message: String,
    pub hint: Option<&'static str>,
    /// Sent with a 503 in whole seconds, at least one.
    retry_after: Duration,
}

impl Error {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unauthorized(hint: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "A caller key is needed").with_hint(hint)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found() -> Self {
        Self::bad_request("Installation not found")
            .with_hint("name it by installation_id, or install the app at /oauth/install")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            hint: None,
            retry_after: Duration::from_secs(1),
        }
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
        let mut body = json!({
            "statusCode": self.status.as_u16(),
            "message": self.message,
            "error": self.status.canonical_reason(),
        });
        if let Some(hint) = self.hint {
            body["hint"] = hint.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = self.retry_after.as_secs().max(1);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
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
                Self::unavailable("The store is unavailable, try again")
            }
            WriteError::Unreadable { source, .. } => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a record cannot be read"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
                    .with_hint(remedy(source))
            }
            WriteError::Unwritable { .. } => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a record was not written"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        warn!(
            error = &error as &dyn std::error::Error,
            "a request failed because of the store"
        );
        Self::unavailable("The store is unavailable, try again")
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
            assert_eq!(Error::from(error).status.as_u16(), status);
        }
    }
}
