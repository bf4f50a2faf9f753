//! The facts that the stages learn about a request.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::{Extensions, HeaderName, HeaderValue, Method, StatusCode, Uri};
use service::locks::lock;
use service::trace::TraceContext;
use tracing::Span;

use crate::token::sources::{ApiKey, Token};
use crate::upstream::SendError;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The known facts about a request. The request has them among its extensions.
pub(crate) struct RequestRecord {
    method: Method,
    uri: Uri,
    traceparent: Option<HeaderValue>,
    /// The trace that this gateway exports.
    trace: OnceLock<String>,
    key: OnceLock<Arc<ApiKey>>,
    /// Of the selected installation.
    token: OnceLock<Arc<Token>>,
    attempts: Mutex<Attempts>,
}

/// The attempts at GHL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    pub(crate) count: u32,
    /// Of the last one. `None` if it got no answer.
    pub(crate) status: Option<StatusCode>,
    /// Of all together, each until the head of its answer.
    pub(crate) took: Duration,
}

impl RequestRecord {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            traceparent: request.headers().get(TRACEPARENT).cloned(),
            trace: OnceLock::new(),
            key: OnceLock::new(),
            token: OnceLock::new(),
            attempts: Mutex::default(),
        }
    }

    /// The record of a request with these extensions. `None` if the access log is off.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }

    /// Notes the key of a request with these extensions, also if the key is refused for it.
    pub(crate) fn note_key(extensions: &Extensions, key: &Arc<ApiKey>) {
        if let Some(record) = Self::of(extensions) {
            let _ = record.key.set(Arc::clone(key));
        }
    }

    /// Notes the installation that a request with these extensions selects.
    pub(crate) fn note_installation(extensions: &Extensions, token: &Arc<Token>) {
        if let Some(record) = Self::of(extensions) {
            let _ = record.token.set(Arc::clone(token));
        }
    }

    /// Notes the trace that the request is a part of, if it is exported.
    pub(crate) fn note_trace(&self, span: &Span) {
        if let Some(id) = TraceContext::of(span).trace_id() {
            let _ = self.trace.set(id);
        }
    }

    /// Notes an attempt at GHL.
    pub(crate) fn note_attempt(&self, took: Duration, answer: &Result<Response, SendError>) {
        let mut attempts = lock(&self.attempts);
        attempts.count += 1;
        attempts.status = answer.as_ref().ok().map(Response::status);
        attempts.took += took;
    }

    pub(super) fn method(&self) -> &str {
        self.method.as_str()
    }

    /// Without the query.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The trace that the request is a part of: the caller's (W3C Trace Context), or one that began here.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.trace
            .get()
            .map(String::as_str)
            .or_else(|| self.callers_trace())
    }

    fn callers_trace(&self) -> Option<&str> {
        let traceparent = self.traceparent.as_ref()?.to_str().ok()?;
        let id = traceparent.split('-').nth(1)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = id.len() == 32 && id.bytes().all(is_digit) && id.bytes().any(|it| it != b'0');
        is_id.then_some(id)
    }

    /// The name that the operator gave the key. For a browser's key, that of the key that issued it.
    pub(crate) fn key_name(&self) -> Option<&str> {
        self.key.get().map(|key| key.caller.name.as_str())
    }

    pub(crate) fn app(&self) -> Option<&str> {
        self.token.get().map(|token| token.app.as_str())
    }

    pub(crate) fn installation(&self) -> Option<&str> {
        self.token.get().map(|token| token.id.as_str())
    }

    pub(crate) fn attempts(&self) -> Attempts {
        *lock(&self.attempts)
    }
}

/// Without the query, which may contain secrets.
impl fmt::Debug for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRecord").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn trace_id(traceparent: &str) -> Option<String> {
        let request = Request::get("/x").header("traceparent", traceparent);
        let record = RequestRecord::new(&request.body(Body::empty()).unwrap());
        record.trace_id().map(str::to_owned)
    }

    #[test]
    fn trace_id_is_read_from_a_valid_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let sent = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&sent).as_deref(), Some(id));
        let zeros = "0".repeat(32);
        for wrong in [
            "",
            id,
            "00-evg_secret-00f067aa0ba902b7-01",
            &format!("00-{zeros}-00f067aa0ba902b7-01"),
            &sent.to_uppercase(),
        ] {
            assert_eq!(trace_id(wrong), None, "{wrong}");
        }
    }
}
