//! Telemetry is installed for a whole process, so this test has its own process.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::HeaderMap;
use opentelemetry::trace::TraceContextExt;
use service::config::Settings;
use service::connection_limits::ConnectionLimits;
use service::telemetry::{Config, LogFormat, Telemetry};
use service::{listen, shutdown::Shutdown, trace};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_and_continue_the_callers_trace() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let incoming = HeaderMap::from_iter([(
        "traceparent".parse().unwrap(),
        format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap(),
    )]);
    assert!(
        !trace::extract(&incoming).span().span_context().is_valid(),
        "nothing is read without an exporter"
    );

    let (received, spans) = mpsc::channel();
    let collector = Router::new().route(
        "/base/v1/traces",
        post(async move |body: Bytes| received.send(body).unwrap()),
    );
    let shutdown = Shutdown::new();
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}/base/", listener.local_addr().unwrap());
    shutdown.spawn(listen::serve(
        listener,
        collector,
        ConnectionLimits::none(),
        shutdown.clone(),
    ));

    let source = HashMap::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
        ("EVERGREEN_LOG_FORMAT".to_owned(), "json".to_owned()),
    ]);
    let mut settings = Settings::new(&source);
    let config = Config::read(&mut settings, "evergreen-test", "1.2.3");
    let config = settings.finish(config).unwrap();
    assert_eq!(
        (config.log, config.filter.as_str()),
        (LogFormat::Json, "info")
    );
    let telemetry = Telemetry::start(&config, &[]).unwrap();

    let span = tracing::info_span!("a_request_forwarded");
    trace::continue_from(&span, &incoming);
    let mut outgoing = HeaderMap::new();
    trace::inject(&span, &mut outgoing);
    let parent = outgoing["traceparent"].to_str().unwrap();
    assert!(parent.contains(TRACE), "{parent}");
    drop(span);

    metrics::histogram!("evergreen_test_duration_seconds").record(0.003);
    let rendered = telemetry.metrics().render();
    assert!(
        rendered.contains("evergreen_test_duration_seconds_bucket{le=\"0.005\"} 1"),
        "{rendered}"
    );

    tokio::task::spawn_blocking(|| telemetry.flush())
        .await
        .unwrap();
    let body = spans.recv_timeout(Duration::from_secs(10)).unwrap();
    for name in ["a_request_forwarded", "evergreen-test"] {
        let found = body
            .windows(name.len())
            .any(|window| window == name.as_bytes());
        assert!(found, "{name} is in the exported span");
    }
}

#[test]
fn invalid_log_filter_and_format_are_reported() {
    let source = HashMap::from([
        ("EVERGREEN_LOG".to_owned(), "broker=loud".to_owned()),
        ("EVERGREEN_LOG_FORMAT".to_owned(), "xml".to_owned()),
    ]);
    let mut settings = Settings::new(&source);
    let config = Config::read(&mut settings, "evergreen-test", "1.2.3");
    let mistakes = settings.finish(config).unwrap_err().to_string();
    assert!(
        mistakes.contains("EVERGREEN_LOG must be a log filter"),
        "{mistakes}"
    );
    assert!(
        mistakes.contains("EVERGREEN_LOG_FORMAT must be text or json"),
        "{mistakes}"
    );
}
