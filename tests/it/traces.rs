//! Traces, as a collector gets them by OTLP.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use tests::client::{self, KEY, send};
use tests::collector::{Collector, Exported};
use tests::fleet::{Fleet, FleetConfig};
use tests::up::Up;

/// The caller's trace and span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// How each access and refresh token of the sandbox begins.
const TOKEN: &str = "eyJhbGciOi";

/// How soon spans are sent, in milliseconds.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "100");

async fn fleet(collector: &Collector) -> Fleet {
    Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url), SOON],
    })
    .await
}

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// A call of GHL through the first gateway, as a part of a trace.
async fn call(fleet: &Fleet, path: &str, trace: &str) -> (u16, Value) {
    let url = format!("http://{}/ghl{path}", fleet.gateways[0].address);
    let call = fleet.client.get(url);
    let call = call.header("tracestate", "vendor=state-of-the-caller");
    let call = call.header("baggage", "user=baggage-of-the-caller");
    send(call.header("traceparent", traceparent(trace))).await
}

async fn server_span(collector: &Collector, service: &str, trace: &str) -> Exported {
    let what = format!("the server span of {service}");
    let is_it = |span: &Exported| {
        span.kind == SpanKind::Server && span.service() == service && span.trace == trace
    };
    collector.span(&what, is_it).await
}

async fn child(collector: &Collector, parent: &Exported, name: &str) -> Exported {
    let what = format!("{name} in {}", parent.name);
    let is_it = |span: &Exported| span.is_in(parent) && span.name == name;
    collector.span(&what, is_it).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_a_caller_continues_to_the_refresh_that_it_needs() {
    let collector = Collector::start().await;
    let fleet = fleet(&collector).await;
    let id = fleet.install(1).await.remove(0);
    fleet.sandbox.steer("expire", "loc000").await;
    let path =
        format!("/contacts/?installation_id={id}&locationId=loc000&email=private%40example.com");
    let (status, body) = call(&fleet, &path, TRACE).await;
    assert_eq!(status, 200, "{body}");

    let gateway = server_span(&collector, "evergreen-gateway", TRACE).await;
    assert_eq!(
        (gateway.parent.as_str(), gateway.status),
        (CALLER, StatusCode::Unset)
    );
    assert!(
        gateway.name.starts_with("GET /ghl/contacts"),
        "{}",
        gateway.name
    );
    for (name, expected) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/ghl/contacts/"),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(gateway.attribute(name), expected, "{name} of {gateway:?}");
    }
    // GHL refuses the first attempt.
    for (status, code) in [("401", StatusCode::Error), ("200", StatusCode::Unset)] {
        let attempt = collector.span(status, |span| {
            span.is_in(&gateway) && span.attribute("http.response.status_code") == status
        });
        let attempt = attempt.await;
        assert_eq!((attempt.kind, attempt.status), (SpanKind::Client, code));
        assert_eq!(attempt.attribute("url.path"), "/contacts/", "{attempt:?}");
    }
    let question = child(&collector, &gateway, "ask a broker").await;
    let sent = child(&collector, &question, "POST").await;
    assert_eq!(
        (sent.kind, sent.status),
        (SpanKind::Client, StatusCode::Unset)
    );
    let broker = server_span(&collector, "evergreen-broker", TRACE).await;
    assert!(broker.is_in(&sent), "{broker:?} is not in {sent:?}");
    assert_eq!(broker.name, "POST /v1/installations/{id}/refresh");
    assert_eq!(broker.resource["service.instance.id"], "broker-0");

    let refresh = collector.span("the refresh", |span| {
        span.name == "refresh" && span.links == [(broker.trace.clone(), broker.id.clone())]
    });
    let refresh = refresh.await;
    assert_eq!(
        (refresh.parent.as_str(), refresh.attribute("outcome")),
        ("", "refreshed")
    );
    assert_eq!(refresh.attribute("installation"), id);
    for step in ["lease", "intent", "journal", "escrow", "commit"] {
        let step = child(&collector, &refresh, step).await;
        assert_eq!(step.status, StatusCode::Unset, "{step:?}");
    }
    let exchange = child(&collector, &refresh, "exchange").await;
    let at_ghl = child(&collector, &exchange, "POST /oauth/token").await;
    assert_eq!(at_ghl.kind, SpanKind::Client);
    assert_eq!(at_ghl.attribute("http.response.status_code"), "200");
    for secret in [
        TOKEN,
        KEY,
        "sandbox-secret",
        "private",
        "baggage-of-the-caller",
    ] {
        assert!(!collector.text().contains(secret), "{secret} is in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_a_status_and_health_checks_and_secrets_have_no_span() {
    let collector = Collector::start().await;
    let fleet = fleet(&collector).await;
    let id = fleet.install(1).await.remove(0);
    let (gateway, broker) = (&fleet.gateways[0], &fleet.brokers[0]);
    for url in [
        format!("http://{}/health", gateway.address),
        format!("http://{}/health", broker.address),
        format!("{}/readyz", gateway.internal),
        format!("{}/metrics", broker.internal),
    ] {
        assert_eq!(client::get(&fleet.client, &url).await.0, 200, "{url}");
    }
    let link = "s3cret-of-a-link-that-is-used-once";
    for address in [&gateway.address, &broker.address] {
        client::get(&fleet.client, &format!("http://{address}/connect/{link}")).await;
    }
    let failing = json!([{ "on": "api", "kind": "status", "status": 500, "next": 1 }]);
    fleet.sandbox.faults(failing).await;
    let path = format!("/contacts/?installation_id={id}&locationId=loc000");
    assert_eq!(call(&fleet, &path, TRACE).await.0, 500);
    let refused = TRACE.replace('4', "5");
    assert_eq!(
        call(&fleet, "/contacts/?installation_id=nobody", &refused)
            .await
            .0,
        400
    );
    // The last request of each process.
    let url = format!("{}/v1/installations/{id}", broker.internal);
    let shown = fleet.client.get(url);
    send(shown.header("traceparent", traceparent(&refused))).await;
    server_span(&collector, "evergreen-broker", &refused).await;

    let refused = server_span(&collector, "evergreen-gateway", &refused).await;
    assert_eq!(refused.status, StatusCode::Unset, "{refused:?}");
    let failed = server_span(&collector, "evergreen-gateway", TRACE).await;
    let attempt = collector
        .span("the attempt", |span| span.is_in(&failed))
        .await;
    for span in [&failed, &attempt] {
        assert_eq!(span.status, StatusCode::Error, "{span:?}");
        assert_eq!(span.attribute("error.type"), "500", "{span:?}");
    }
    let is_link = |span: &Exported| span.name == "GET /connect/{token}";
    collector.span("the span of the link", is_link).await;
    for span in collector.spans() {
        for probe in ["health", "readyz", "metrics"] {
            let seen = format!("{} {}", span.name, span.attribute("url.path"));
            assert!(!seen.contains(probe), "{span:?}");
        }
    }
    for secret in [link, TOKEN, KEY, "sandbox-secret"] {
        assert!(!collector.text().contains(secret), "{secret} is in a span");
    }
}

/// The headers of a call as they arrive at GHL.
async fn headers_at_ghl(up: &Up, id: &str) -> Value {
    let url = format!("{}/ghl/_sandbox/echo/x?installation_id={id}", up.public);
    let call = up.client.get(url).header("traceparent", traceparent(TRACE));
    let call = call
        .header("tracestate", "vendor=state")
        .header("baggage", "user=7");
    let (status, answer) = send(call).await;
    assert_eq!(status, 200, "{answer}");
    answer["headers"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_of_callers_stay_here_unless_a_setting_lets_ghl_have_them() {
    let collector = Collector::start().await;
    let export = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        SOON,
    ];
    let names = ["traceparent", "tracestate", "baggage"];
    for settings in [&[][..], &export[..]] {
        let up = Up::start(settings).await;
        let id = up.install("locA").await;
        let headers = headers_at_ghl(&up, &id).await;
        for name in names {
            assert_eq!(headers[name], Value::Null, "{name} with {settings:?}");
        }
    }
    let up = Up::start(&[export[0], SOON, ("EVERGREEN_TRACE_TO_GHL", "true")]).await;
    let id = up.install("locA").await;
    let headers = headers_at_ghl(&up, &id).await;
    assert_eq!(
        (&headers["tracestate"], &headers["baggage"]),
        (&json!("vendor=state"), &json!("user=7"))
    );
    let sent = headers["traceparent"].as_str().unwrap();
    let attempt = collector.span("the attempt", |span| {
        span.trace == TRACE && sent == format!("00-{TRACE}-{}-01", span.id)
    });
    assert_eq!(attempt.await.kind, SpanKind::Client);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_over_grpc_with_the_names_of_the_settings() {
    let collector = Collector::start().await;
    let up = Up::start(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.url),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("OTEL_SERVICE_NAME", "tokens"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("EVERGREEN_INSTANCE", "tokens-1"),
        SOON,
    ])
    .await;
    up.install("locA").await;
    let exchange = collector.span("the exchange of the code", |span| {
        span.name == "POST /oauth/token" && span.kind == SpanKind::Client
    });
    let exchange = exchange.await;
    for (name, expected) in [
        ("service.name", "tokens"),
        ("service.instance.id", "tokens-1"),
        ("deployment.environment.name", "test"),
        ("telemetry.sdk.language", "rust"),
    ] {
        assert_eq!(exchange.resource[name], expected, "{:?}", exchange.resource);
    }
    assert!(!exchange.resource["service.version"].is_empty());
    assert_eq!(collector.header("x-tenant"), "a b");
    assert_eq!(collector.header("content-type"), "application/grpc");
    for secret in [TOKEN, "sandbox-secret"] {
        assert!(!collector.text().contains(secret), "{secret} is in a span");
    }
}
