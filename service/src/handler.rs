//! What a connection's requests are given to.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use tower::ServiceExt;

use crate::limits::ANSWER_TIMEOUT;

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Handles a request of the connection from `peer`. The response must not have headers about its connection or its
    /// transfer coding.
    fn handle(
        &self,
        request: Request<Body>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// How long it may take until a caller has received a whole response.
    fn answer_timeout(&self) -> Duration {
        ANSWER_TIMEOUT
    }
}

/// The address from which a connection comes. A request has it among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

impl Handler for Router {
    async fn handle(&self, mut request: Request<Body>, peer: IpAddr) -> Response<Body> {
        request.extensions_mut().insert(Peer(peer));
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}
