//! HTTP/2 with one other side: one connection for all calls.

use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tracing::debug;

use super::{Failed, Origin, Outbound};
use crate::body::Outgoing;
use crate::connector::Stream;
use crate::headers::strip_hop_by_hop;

/// How long a connection with calls on it may be silent before it is asked whether it is there, and
/// how long it has to say so.
const SILENCE: Duration = Duration::from_secs(10);

/// Clones send over the same connection.
#[derive(Debug, Clone)]
pub(super) struct Sender(http2::SendRequest<Outgoing>);

impl Sender {
    pub(super) async fn new(stream: Stream) -> hyper::Result<Self> {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .handshake(stream);
        let (sender, connection) = handshake.await?;
        tokio::spawn(async move {
            if let Err(reason) = connection.await {
                debug!(%reason, "a connection ended early");
            }
        });
        Ok(Self(sender))
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Sends the request and waits for the head of its answer.
    pub(super) async fn call(
        mut self,
        origin: &Origin,
        outbound: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Failed> {
        let mut headers = HeaderMap::new();
        outbound.headers.for_each(|name, value| {
            headers.append(name, value.clone());
        });
        let mut request = Request::new(body);
        *request.method_mut() = outbound.method.clone();
        *request.uri_mut() = origin.with(outbound.uri);
        *request.headers_mut() = headers;
        match self.0.try_send_request(request).await {
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::HTTP_11;
                Ok(response)
            }
            Err(mut failed) => Err(Failed {
                unsent: failed.take_message().map(Request::into_body),
                error: failed.into_error().into(),
            }),
        }
    }
}
