//! `/_sandbox/echo`: responds with the request as it arrived, for tests of proxies.

use axum::Json;
use axum::body::Body;
use axum::extract::OriginalUri;
use futures_util::TryStreamExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};

use super::Caller;
use crate::error::ApiError;
use crate::ids;

/// Hashes the body while it streams, without storing it.
pub(super) async fn echo(
    caller: Caller,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let mut bytes: u64 = 0;
    let mut sha256 = Context::new(&SHA256);
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream
        .try_next()
        .await
        .map_err(|_| ApiError::bad_request("the body ended early"))?
    {
        bytes += piece.len() as u64;
        sha256.update(&piece);
    }
    Ok(Json(json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": shown(&headers),
        "body_sha256": ids::hex(sha256.finish().as_ref()),
        "body_bytes": bytes,
        "authClass": caller.subject().user_type(),
        "authClassId": **caller.subject().id(),
    })))
}

/// The headers as JSON. Repeated headers are joined by a comma, and the bearer token is omitted.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let mut shown = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let text = if name == AUTHORIZATION {
            "Bearer …".to_owned()
        } else {
            values.join(", ")
        };
        shown.insert(name.as_str().to_owned(), Value::String(text));
    }
    shown
}
