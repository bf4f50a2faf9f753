//! The handlers of a connection's requests.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Extensions, Request, Response};
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

/// An extension of a response: it may take as long as its caller reads it, such as a stream of events. Without it,
/// [`Handler::answer_timeout`] applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endless;

/// The address from which a connection comes. A request has it among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// The address of the connection on which a request came. A request has one, except in unit tests.
    #[must_use]
    pub fn of(extensions: &Extensions) -> IpAddr {
        let peer = extensions.get::<Self>();
        peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
    }
}

impl Handler for Router {
    async fn handle(&self, mut request: Request<Body>, peer: IpAddr) -> Response<Body> {
        request.extensions_mut().insert(Peer(peer));
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}
