//! A collector of OpenTelemetry: it takes spans by OTLP, over HTTP and over gRPC at one port, and keeps them decoded.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::wait::until;

/// A span as it arrived. Ids are hex digits.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The attributes of the process.
    pub resource: BTreeMap<String, String>,
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    /// Empty for the first span of a trace.
    pub parent: String,
    pub attributes: BTreeMap<String, String>,
    pub status: SpanStatus,
    /// The traces and the spans that it is linked to.
    pub links: Vec<(String, String)>,
}

/// A server on a free loopback port. It ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    pub url: String,
    shared: Shared,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Exported>,
    /// Everything as text, to search it.
    text: String,
    /// The headers of the last request.
    headers: BTreeMap<String, String>,
}

impl Exported {
    /// The name of its service.
    #[must_use]
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// The attribute; empty if it is missing.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether it is a part of `parent`.
    #[must_use]
    pub fn is_in(&self, parent: &Self) -> bool {
        self.trace == parent.trace && self.parent == parent.id
    }

    fn of(span: Span, resource: &BTreeMap<String, String>) -> Self {
        let kind = span.kind();
        let status = span.status.unwrap_or_default();
        Self {
            resource: resource.clone(),
            kind,
            status: status.code(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: texts(span.attributes),
            links: span
                .links
                .iter()
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            name: span.name,
        }
    }
}

impl Collector {
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let shared = Shared::default();
        let over_http = Router::new()
            .route("/v1/traces", post(take))
            .with_state(shared.clone());
        let over_grpc = Routes::new(TraceServiceServer::new(shared.clone()));
        let router = over_http.merge(over_grpc.into_axum_router());
        let served = async move {
            // It ends only with its task.
            let _ = axum::serve(listener, router).await;
        };
        Self {
            url: format!("http://{address}"),
            shared,
            server: tokio::spawn(served),
        }
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Exported> {
        self.shared.lock().spans.clone()
    }

    /// Everything that arrived so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// A header of the last request; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let received = self.shared.lock();
        received.headers.get(name).cloned().unwrap_or_default()
    }

    /// Waits for the first span that this holds for.
    pub async fn span(&self, what: &str, is_it: impl Fn(&Exported) -> bool) -> Exported {
        until(what, Duration::from_secs(60), || async {
            let spans = self.spans();
            let found = spans.iter().find(|span| is_it(span)).cloned();
            found.ok_or_else(|| {
                let mut seen = String::new();
                for span in &spans {
                    let _ = writeln!(seen, "{} {}: {span:?}", span.service(), span.name);
                }
                seen
            })
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().expect("not poisoned")
    }

    fn keep(&self, request: ExportTraceServiceRequest, headers: &HeaderMap) {
        let mut received = self.lock();
        let _ = writeln!(received.text, "{request:?}");
        let headers = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        received.headers = headers.collect();
        for of_resource in request.resource_spans {
            let Resource { attributes, .. } = of_resource.resource.unwrap_or_default();
            let resource = texts(attributes);
            let spans = of_resource.scope_spans.into_iter();
            let spans = spans.flat_map(|of_scope| of_scope.spans);
            let spans = spans.map(|span| Exported::of(span, &resource));
            received.spans.extend(spans);
        }
    }
}

async fn take(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    let request = ExportTraceServiceRequest::decode(body);
    let request = request.map_err(|_| StatusCode::BAD_REQUEST)?;
    shared.keep(request, &headers);
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

#[tonic::async_trait]
impl TraceService for Shared {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.keep(request, &metadata.into_headers());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let attributes = attributes.into_iter();
    attributes
        .map(|it| (it.key, text(it.value.unwrap_or_default())))
        .collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
