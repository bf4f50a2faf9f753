//! Traces: spans, and their propagation between processes in the `traceparent` header (W3C Trace Context). Without an
//! exporter nothing is read or written, and each function here costs one atomic load.

mod http_span;

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use http_span::{answered, client_span, failed, server_span};

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// The headers that carry traces and what callers attach to them.
pub const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// A place in a trace, for spans elsewhere.
#[derive(Clone, Debug, Default)]
pub struct TraceContext(Option<Context>);

impl TraceContext {
    /// That of the current span. None without an exporter, or outside of a span.
    #[must_use]
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// That of this span.
    #[must_use]
    pub fn of(span: &Span) -> Self {
        let context = is_exporting().then(|| span.context());
        Self(context.filter(|context| context.span().span_context().is_valid()))
    }

    /// Makes `span` a child. Must be called before the span is first entered.
    pub fn adopt(&self, span: &Span) {
        if let Self(Some(context)) = self {
            // Fails for a span that is filtered out or already entered. Then it has no parent.
            let _ = span.set_parent(context.clone());
        }
    }

    /// Links `span` to this place: it was caused by it, and is not part of it.
    pub fn link(&self, span: &Span) {
        if let Self(Some(context)) = self {
            span.add_link(context.span().span_context().clone());
        }
    }

    /// The id of the trace, 32 hex digits, if it is exported.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let span = self.0.as_ref()?.span();
        let context = span.span_context();
        context.is_sampled().then(|| context.trace_id().to_string())
    }
}

/// The trace context in these headers, or an empty one if they have none.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    if !is_exporting() {
        return Context::new();
    }
    // Not the ambient context, since a request without the header starts its own trace.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers))
}

/// Makes `span` a child of the span in these headers. Must be called before the span is first entered. A later call
/// changes nothing.
pub fn continue_from(span: &Span, headers: &HeaderMap) {
    if is_exporting() {
        // Fails for a span that is filtered out or already entered. Then it has no parent.
        let _ = span.set_parent(extract(headers));
    }
}

/// Whether spans are exported.
#[must_use]
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Writes the context of `span` into these headers.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if is_exporting() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Outgoing(headers));
    }
}

/// Enables propagation, once spans are exported.
pub(crate) fn enable() {
    EXPORTING.store(true, Ordering::Relaxed);
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            return;
        }
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
