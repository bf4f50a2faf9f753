//! The span of one request to GHL, by OpenTelemetry's semantic conventions. It has no query, no header and no body.

use http::{Method, StatusCode};
use tracing::field::Empty;
use tracing::{Span, debug_span};
use url::Url;

pub(crate) fn client_span(method: &Method, url: &Url) -> Span {
    debug_span!(
        "send",
        otel.name = format_args!("{method} {}", url.path()),
        otel.kind = "client",
        otel.status_code = Empty,
        "http.request.method" = method.as_str(),
        "http.response.status_code" = Empty,
        "url.path" = url.path(),
        "server.address" = url.host_str(),
        "error.type" = Empty,
    )
}

/// Records the answer, or the kind of the failure, which is one word of few.
pub(crate) fn record(span: &Span, answer: Result<StatusCode, &str>) {
    let error = match &answer {
        Ok(status) => {
            span.record("http.response.status_code", i64::from(status.as_u16()));
            let is_error = status.is_client_error() || status.is_server_error();
            is_error.then_some(status.as_str())
        }
        Err(kind) => Some(*kind),
    };
    if let Some(error) = error {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
}
