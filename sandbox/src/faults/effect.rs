//! Applies a fault to a call.

use std::time::Duration;

use axum::Json;
use axum::body::{self, Body};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::oddity::distort;
use super::{Alteration, Fault, FixedResponse};
use crate::server;

/// The number of pieces of a slow body.
const PIECES: usize = 10;

/// A call as it was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Runs `process` for a call, changed by the fault.
pub(crate) async fn around(
    fault: Option<Fault>,
    sent: Sent,
    process: impl Future<Output = Response>,
) -> Response {
    match fault {
        None => process.await,
        Some(Fault::Respond(canned)) => canned.into_response(),
        Some(Fault::Echo(status)) => echo(status, &sent).into_response(),
        Some(Fault::Alter(alteration)) => alter(process.await, alteration).await,
        Some(Fault::Hang(duration)) => {
            tokio::time::sleep(duration).await;
            process.await
        }
        Some(Fault::ResetBefore) => server::closes_connection(),
        Some(Fault::ProcessThenLose) => {
            process.await;
            server::closes_connection()
        }
        Some(Fault::SlowBody(duration)) => slow_down(process.await, duration).await,
    }
}

impl IntoResponse for FixedResponse {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn echo(status: StatusCode, sent: &Sent) -> impl IntoResponse + use<> {
    let Sent { headers, body } = sent;
    let message = format!("No: {headers:?} {}", String::from_utf8_lossy(body));
    let code = status.as_u16();
    (
        status,
        Json(json!({ "statusCode": code, "message": message })),
    )
}

async fn alter(response: Response, alteration: Alteration) -> Response {
    match alteration {
        Alteration::Truncate => with_body(response, |body| body.slice(..body.len() / 2)).await,
        Alteration::OnlyTokens => with_body(response, |body| only_tokens(&body)).await,
        // The token endpoint has already omitted it.
        Alteration::WithoutRefreshToken => response,
        Alteration::Odd { oddity, value } => {
            with_body(response, |body| distort(&body, oddity, value.as_ref())).await
        }
    }
}

async fn with_body(response: Response, change: impl FnOnce(Bytes) -> Bytes) -> Response {
    let (mut head, body) = response.into_parts();
    let body = change(collect(body).await);
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}

fn only_tokens(body: &[u8]) -> Bytes {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let is_token = |name: &str| {
        matches!(
            name,
            "access_token" | "refresh_token" | "accessToken" | "refreshToken"
        )
    };
    // An error keeps its fields.
    if fields.keys().any(|name| is_token(name)) {
        fields.retain(|name, _| is_token(name));
    }
    Value::Object(fields).to_string().into()
}

async fn slow_down(response: Response, duration: Duration) -> Response {
    let (head, body) = response.into_parts();
    let body = collect(body).await;
    let piece = body.len().div_ceil(PIECES).max(1);
    let pause = duration / u32::try_from(PIECES).unwrap_or(1);
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let next = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, std::convert::Infallible>(next), rest))
    });
    Response::from_parts(head, Body::from_stream(pieces))
}

/// Collects a body. It is in memory, so reading it does not fail.
async fn collect(body: Body) -> Bytes {
    body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}
