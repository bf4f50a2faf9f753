//! The responses of simulated GHL.

use std::time::Duration;

use ghl::token_endpoint::HttpResponse;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::Token;

/// The shape of a token response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Shape {
    ScopeIsArray,
    BooleanIsString,
    ByteOrderMark,
    CamelCase,
    Wrapped,
    LifetimeIsFloat,
    /// Truncated: the token is spent and its successor cannot be read.
    Unreadable,
}

impl Shape {
    pub(in super::super) const ALL: [Self; 7] = [
        Self::ScopeIsArray,
        Self::BooleanIsString,
        Self::ByteOrderMark,
        Self::CamelCase,
        Self::Wrapped,
        Self::LifetimeIsFloat,
        Self::Unreadable,
    ];
}

pub(super) fn granted(
    access: &str,
    refresh: Token,
    lifetime: Duration,
    shape: Option<Shape>,
) -> HttpResponse {
    let (access_name, refresh_name, lifetime_name) = match shape {
        Some(Shape::CamelCase) => ("accessToken", "refreshToken", "expiresIn"),
        Some(_) | None => ("access_token", "refresh_token", "expires_in"),
    };
    let mut body = json!({
        access_name: access,
        refresh_name: refresh.to_string(),
        lifetime_name: lifetime.as_secs(),
        "scope": "contacts.readonly contacts.write",
        "userType": "Location",
        "locationId": location(refresh.customer),
        "companyId": "company",
    });
    match shape {
        Some(Shape::ScopeIsArray) => body["scope"] = json!(["contacts.readonly"]),
        Some(Shape::BooleanIsString) => body["isBulkInstallation"] = "false".into(),
        Some(Shape::LifetimeIsFloat) => body[lifetime_name] = lifetime.as_secs_f64().into(),
        Some(Shape::Wrapped) => body = json!({ "data": body }),
        Some(Shape::ByteOrderMark | Shape::CamelCase | Shape::Unreadable) | None => {}
    }
    let mut bytes = bytes(&body);
    match shape {
        Some(Shape::ByteOrderMark) => drop(bytes.splice(0..0, *b"\xef\xbb\xbf")),
        Some(Shape::Unreadable) => bytes.truncate(9),
        Some(
            Shape::ScopeIsArray
            | Shape::BooleanIsString
            | Shape::CamelCase
            | Shape::Wrapped
            | Shape::LifetimeIsFloat,
        )
        | None => {}
    }
    response(StatusCode::OK, bytes)
}

/// The location of a customer.
pub(in super::super) fn location(customer: usize) -> String {
    format!("location{customer}")
}

pub(super) fn refusal() -> HttpResponse {
    let body = json!({ "statusCode": 400, "message": "Invalid grant: refresh token is invalid" });
    response(StatusCode::BAD_REQUEST, bytes(&body))
}

pub(super) fn failure(status: u16, retry_after: Option<u64>) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = response(status, b"<html>".to_vec());
    if let Some(seconds) = retry_after {
        let seconds = HeaderValue::from(seconds);
        response.headers.insert(RETRY_AFTER, seconds);
    }
    response
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

fn response(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    HttpResponse {
        status,
        headers: HeaderMap::new(),
        body,
    }
}
