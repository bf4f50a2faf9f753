//! What a connection's requests are given to.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use tower::ServiceExt;

use crate::limits::ANSWER_TIMEOUT;

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Handles a request. The response must not have headers about its connection or its transfer coding.
    fn handle(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;

    /// How long it may take until a caller has received a whole response.
    fn answer_timeout(&self) -> Duration {
        ANSWER_TIMEOUT
    }
}

impl Handler for Router {
    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}
