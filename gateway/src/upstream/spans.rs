//! The spans of requests to GHL and to brokers: one for each attempt.

use std::mem;

use axum::response::Response;
use ghl::operations;
use service::trace::{self, TraceContext};
use tracing::{Instrument, Span, debug_span};

use super::body::Outgoing;
use super::client::{Kind, Peer, SendError, Upstream};
use super::outbound::Outbound;
use crate::access_log::path::loggable;

/// A span for a question to brokers that outlives the request that asked it first. It is a part of the same trace.
pub(crate) fn span_of_question(asked_by: &TraceContext) -> Span {
    let span = debug_span!(parent: None, "ask a broker", otel.kind = "internal");
    asked_by.adopt(&span);
    span
}

impl Upstream {
    pub(super) fn span_of(&self, request: &Outbound<'_>) -> Span {
        let server = self.base.origin.authority.host();
        let path = request.uri.path();
        match self.peer {
            Peer::Ghl => {
                let known = trace::is_exporting().then(|| operations::find(request.method, path));
                let template = known.flatten().map(|known| known.path);
                trace::client_span(request.method, server, path, template)
            }
            // It may be a one-time link.
            Peer::Broker => trace::client_span(request.method, server, &loggable(path), None),
        }
    }

    /// As [`Upstream::exchange`], with what came of it in `span`.
    pub(super) async fn traced(
        &self,
        span: &Span,
        request: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response, SendError> {
        let exchange = async {
            if !self.continues_trace || !trace::is_exporting() {
                return self.exchange(request, body).await;
            }
            let mut headers = request.headers.unfiltered().clone();
            trace::inject(span, &mut headers);
            let headers = request.headers.replaced(&headers);
            self.exchange(Outbound { headers, ..request }, body).await
        };
        let unanswered = Unanswered(span);
        let answer = exchange.instrument(span.clone()).await;
        mem::forget(unanswered);
        match &answer {
            Ok(response) => trace::answered(span, response.status(), true),
            Err(error) => trace::failed(span, kind(error)),
        }
        answer
    }
}

/// An attempt that is given up when this is dropped.
struct Unanswered<'s>(&'s Span);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        trace::failed(self.0, "given_up");
    }
}

/// `error.type` of an attempt without an answer.
fn kind(error: &SendError) -> &'static str {
    match error {
        SendError::Body(_) => "request_body",
        SendError::Peer(failure) => match failure.kind {
            Kind::Unreachable => "unreachable",
            Kind::ConnectTimeout => "connect_timeout",
            Kind::ResponseTimeout => "timeout",
            Kind::ConnectionLost => "connection_lost",
            Kind::Malformed => "malformed",
        },
    }
}
