//! The span of a request that a broker answers.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use service::trace;
use tracing::Instrument;

/// For load balancers and people. It would make most of the traces.
const HEALTH: &str = "/health";

/// The parameters of paths that are secrets, or may be.
const SECRET: [&str; 3] = ["{token}", "{outcome}", "{key}"];

/// Middleware that makes each request a part of the caller's trace, except health checks.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    if route == Some(HEALTH) {
        return next.run(request).await;
    }
    let path = route.and_then(|route| loggable(route, request.uri().path()));
    let span = trace::server_span(&request, route, path);
    if span.is_disabled() {
        return next.run(request).await;
    }
    let response = next.run(request).instrument(span.clone()).await;
    trace::answered(&span, response.status(), false);
    response
}

/// The path of a request to this route. `None` if there is a secret in it.
fn loggable<'p>(route: &str, path: &'p str) -> Option<&'p str> {
    let has_secret = SECRET.iter().any(|secret| route.contains(secret));
    (!has_secret).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_secrets_are_left_out() {
        for (route, path, is_shown) in [
            ("/connect/{token}", "/connect/s3cret", false),
            ("/oauth/result/{outcome}", "/oauth/result/s3cret", false),
            ("/v1/keys/{key}/rotate", "/v1/keys/evg_s3cret/rotate", false),
            (
                "/v1/installations/{name}",
                "/v1/installations/install_1",
                true,
            ),
        ] {
            assert_eq!(loggable(route, path).is_some(), is_shown, "{route}");
        }
    }
}
