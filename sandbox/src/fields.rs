//! Extractors for queries, forms and JSON, with errors in GHL's shape.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::error::ApiError;

/// Names with their values: a query, a form, or a flat JSON object. The last value of a repeated name
/// counts, except for lists. An empty value counts as absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(HashMap<String, Vec<String>>);

/// A JSON object as the body.
#[derive(Clone, Debug)]
pub(crate) struct JsonObject(pub(crate) Map<String, Value>);

impl Fields {
    pub(crate) fn urlencoded(text: &[u8]) -> Self {
        let mut fields = Self::default();
        for (name, value) in form_urlencoded::parse(text).into_owned() {
            fields.0.entry(name).or_default().push(value);
        }
        fields
    }

    /// Parses a body: JSON by its content type, otherwise a form.
    pub(crate) fn body(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        if !is_json(headers) {
            return Ok(Self::urlencoded(body));
        }
        let object = json_object(body)?;
        Ok(Self(
            object
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, texts(value)))
                .collect(),
        ))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// All values of a list: repeated, separated by commas, or both. `None` if the field is absent.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<&str>> {
        let values = self.0.get(name)?.iter();
        let values = values
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty());
        Some(values.collect())
    }

    /// `true` or `false`, or `default` if the field is absent.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(ApiError::invalid([format!(
                "{name} must be a boolean value"
            )])),
        }
    }

    /// A required field.
    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// A number, or `default` if the field is absent.
    pub(crate) fn number(&self, name: &str, default: usize) -> Result<usize, ApiError> {
        self.get(name).map_or(Ok(default), |text| {
            text.parse()
                .map_err(|_| ApiError::invalid([format!("{name} must be a number")]))
        })
    }

    /// These fields, completed by `others`.
    pub(crate) fn or(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, values)| Some((name.as_str(), values.last()?.as_str())))
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Infallible;

    /// Extracts the query.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self::urlencoded(query.as_bytes()))
    }
}

impl JsonObject {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await.map_err(|_| {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request entity too large")
        })?;
        json_object(&body).map(Self)
    }
}

/// The values of a JSON field as text.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

/// GHL's error for a missing field.
pub(crate) fn missing(name: &str) -> ApiError {
    ApiError::invalid([
        format!("{name} must be a string"),
        format!("{name} should not be empty"),
    ])
}

fn json_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(&format!("Body is no JSON object: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json"))
}
