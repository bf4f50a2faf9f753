//! Propagates traces between processes in the `traceparent` header (W3C Trace Context). Without an exporter nothing is
//! read or written, and each function here costs one atomic load.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// The trace context in these headers, or an empty one if they have none.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    if !EXPORTING.load(Ordering::Relaxed) {
        return Context::new();
    }
    // Not the ambient context, since a request without the header starts its own trace.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers))
}

/// Makes `span` a child of the span in these headers. Must be called before the span is first entered. A later call
/// changes nothing.
pub fn continue_from(span: &Span, headers: &HeaderMap) {
    if EXPORTING.load(Ordering::Relaxed) {
        // Fails for a span that is filtered out or already entered. Then it has no parent.
        let _ = span.set_parent(extract(headers));
    }
}

/// Writes the context of `span` into these headers.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if EXPORTING.load(Ordering::Relaxed) {
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
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
