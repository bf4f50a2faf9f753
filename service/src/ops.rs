//! The operational routes of every process: `/metrics`, `/livez` and `/readyz`. They require no credentials, so the
//! caller of [`router`] has to restrict access to them.

use std::time::SystemTime;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error_body::Shape;
use crate::openapi::Group;
use crate::readiness::{Readiness, Reason};

/// The text format of Prometheus, version 0.0.4.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The operational routes.
///
/// - `GET /metrics`: every metric of this process.
/// - `GET /livez`: 200 while the process can answer at all.
/// - `GET /readyz`: 200, or 503 while the process should get no work. The body has every reason.
pub fn router(metrics: PrometheusHandle, readiness: Readiness) -> Router {
    let ready = of_readiness().with_state(readiness);
    Router::from(of_metrics().with_state(metrics).merge(ready))
}

/// The documentation of these routes.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut api = of_metrics().into_openapi();
    api.merge(of_readiness().into_openapi());
    let group = Group {
        tag: "Operations",
        scope: None,
        errors: &[400],
        shape: Shape::Ghl,
        has_pages: false,
        server: None,
    };
    group.describe(&mut api);
    api
}

fn of_metrics() -> OpenApiRouter<PrometheusHandle> {
    OpenApiRouter::default()
        .routes(routes!(live))
        .routes(routes!(scrape))
}

fn of_readiness() -> OpenApiRouter<Readiness> {
    OpenApiRouter::default().routes(routes!(ready))
}

/// Whether a process can do its work.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// Whether it can.
    ready: bool,
    /// The names of the reasons. Empty if it is ready.
    #[schema(value_type = Vec<String>)]
    waiting_for: Vec<&'static str>,
    /// Why it is not ready.
    reasons: Vec<NotReady>,
}

/// One reason why a process cannot do its work.
#[derive(Serialize, ToSchema)]
struct NotReady {
    /// One word, such as `store`.
    #[schema(value_type = String)]
    name: &'static str,
    /// Since when it has been so, by the clock of this machine (RFC 3339).
    since: String,
    /// The fault, and what to do about it.
    message: String,
}

/// Tell whether the process runs
///
/// 200 while it can answer at all.
#[utoipa::path(get, path = "/livez", operation_id = "getLiveness", responses(
    (status = 200, description = "The process runs", body = String, content_type = "text/plain"),
))]
async fn live() -> &'static str {
    "ok\n"
}

/// Get the metrics of the process
///
/// In Prometheus's text format. Beyond loopback, this needs a key. Any live key will do.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", responses(
    (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
    (status = 401, description = "Beyond loopback: no live key was sent", body = String, content_type = "text/plain"),
))]
async fn scrape(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, EXPOSITION)],
        crate::metrics::render(&metrics),
    )
}

/// Tell whether the process can do its work
///
/// A load balancer sends requests to processes that are ready, and to all if none is. This needs no key.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", responses(
    (status = 200, description = "It can", body = Ready),
    (status = 503, description = "It cannot. `reasons` says why", body = Ready),
))]
async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Ready>) {
    let reasons = readiness.reasons();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "only shown to people; nothing is decided by it"
    )]
    let now = SystemTime::now();
    let body = Ready {
        ready: reasons.is_empty(),
        waiting_for: reasons.iter().map(|reason| reason.name).collect(),
        reasons: reasons
            .into_iter()
            .map(|reason| not_ready(reason, now))
            .collect(),
    };
    (status, Json(body))
}

fn not_ready(reason: Reason, now: SystemTime) -> NotReady {
    let since = now.checked_sub(reason.lasts).unwrap_or(now);
    NotReady {
        name: reason.name,
        since: humantime::format_rfc3339_seconds(since).to_string(),
        message: reason.message,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_follows_the_gates_and_livez_does_not() {
        let readiness = Readiness::new();
        let gate = readiness.gate("store", "the store was not asked yet");
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let router = router(handle, readiness.clone());

        let (status, body) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["ready"], &body["waiting_for"]),
            (&false.into(), &["store"].as_slice().into())
        );
        let reason = &body["reasons"][0];
        assert_eq!(reason["name"], "store");
        assert_eq!(reason["message"], "the store was not asked yet");
        let since = reason["since"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(since).is_ok(), "{since}");

        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
        gate.open();
        let ready = r#"{"ready":true,"waiting_for":[],"reasons":[]}"#;
        assert_eq!(
            get(&router, "/readyz").await,
            (StatusCode::OK, ready.to_owned())
        );
        readiness.stop();
        let (status, body) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""waiting_for":["stopping"]"#), "{body}");
        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_rendered() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let router = router(recorder.handle(), Readiness::new());
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("evergreen_tools_total").increment(3)
        });
        let (status, body) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("evergreen_tools_total 3"), "{body}");
    }
}
