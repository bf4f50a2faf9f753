//! Error responses in GHL's shapes.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// An error response: GHL's status and body.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Map<String, Value>,
}

impl ApiError {
    /// `{statusCode, message}`, plus `error` with the reason phrase except for 400, as in GHL's documents.
    pub(crate) fn new(status: StatusCode, message: &str) -> Self {
        let mut error = Self {
            status,
            body: Map::new(),
        }
        .with("statusCode", status.as_u16())
        .with("message", message);
        if status != StatusCode::BAD_REQUEST {
            error = error.with("error", reason(status));
        }
        error
    }

    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(crate) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 422 with one message for every violated rule.
    pub(crate) fn invalid<M: Into<String>>(messages: impl IntoIterator<Item = M>) -> Self {
        let messages: Vec<String> = messages.into_iter().map(Into::into).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "").with("message", messages)
    }

    /// 401 in the other shape of the token endpoint: `{error, error_description}`.
    pub(crate) fn oauth(description: &str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            body: Map::new(),
        }
        .with("error", "UnAuthorized!")
        .with("error_description", description)
    }

    /// An error in the shape of API version 3: `{error: {code, message}}`.
    pub(crate) fn v3(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            body: Map::new(),
        }
        .with("error", json!({"code": code, "message": message}))
    }

    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body.insert(field.to_owned(), value.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

fn reason(status: StatusCode) -> Value {
    json!(status.canonical_reason().unwrap_or("Unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_documented_shapes() {
        let body = |error: ApiError| Value::Object(error.body);
        assert_eq!(
            body(ApiError::bad_request("Location is not active")),
            json!({"statusCode": 400, "message": "Location is not active"})
        );
        assert_eq!(
            body(ApiError::unauthorized("Invalid JWT")),
            json!({"statusCode": 401, "message": "Invalid JWT", "error": "Unauthorized"})
        );
        assert_eq!(
            body(ApiError::invalid(["name should not be empty"])),
            json!({
                "statusCode": 422,
                "message": ["name should not be empty"],
                "error": "Unprocessable Entity",
            })
        );
        assert_eq!(
            body(ApiError::oauth("Invalid client credentials!")),
            json!({"error": "UnAuthorized!", "error_description": "Invalid client credentials!"})
        );
    }
}
