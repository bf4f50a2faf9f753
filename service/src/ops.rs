//! The operational routes of every process: `/metrics`, `/livez` and `/readyz`. They require no credentials, so the
//! caller of [`router`] has to restrict access to them.

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
use crate::readiness::Readiness;

/// The text format of Prometheus, version 0.0.4.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The operational routes.
///
/// - `GET /metrics`: every metric of this process.
/// - `GET /livez`: 200 while the process can answer at all.
/// - `GET /readyz`: 200, or 503 while a gate is closed. The body names the closed gates.
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
struct Waiting {
    /// The dependencies that it waits for, such as `store`. Empty if it is ready.
    waiting_for: Vec<String>,
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
    ([(header::CONTENT_TYPE, EXPOSITION)], metrics.render())
}

/// Tell whether the process can do its work
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", responses(
    (status = 200, description = "It can", body = Waiting),
    (status = 503, description = "It waits for something", body = Waiting),
))]
async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Waiting>) {
    let waiting_for = readiness.waiting_for();
    let status = if waiting_for.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Waiting { waiting_for }))
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
        let gate = readiness.gate("store");
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let router = router(handle, readiness);

        let unready = (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"waiting_for":["store"]}"#.to_owned(),
        );
        assert_eq!(get(&router, "/readyz").await, unready);
        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
        gate.open();
        assert_eq!(
            get(&router, "/readyz").await,
            (StatusCode::OK, r#"{"waiting_for":[]}"#.to_owned())
        );
        drop(gate);
        assert_eq!(get(&router, "/readyz").await, unready);
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
