//! HTTP/2 connections to one upstream. Calls share them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::limits::BUFFER_BYTES;
use tracing::debug;

use super::error::Failed;
use crate::upstream::body::{Outgoing, WithGuard};
use crate::upstream::connector::Stream;
use crate::upstream::headers::strip_hop_by_hop;
use crate::upstream::outbound::{Origin, Outbound};

/// How long a connection with calls may be silent before it gets a PING, and how long the reply may take.
const SILENCE: Duration = Duration::from_secs(10);

/// The most concurrent calls on a connection. Servers should allow at least this many (RFC 9113, 6.5.2). Calls
/// beyond a server's limit wait within hyper, and their rate limit permits would be unused meanwhile.
const CALLS: usize = 100;

/// How many bytes of a response may arrive before its caller reads them. This allows 12 MB/s with 20 ms to GHL.
const ANSWER_WINDOW: u32 = 256 * 1024;

/// The same for all responses of a connection: the largest possible window. With a smaller one, callers that do not
/// read would block the responses to all others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A connection. Every clone counts as a call on it, and so do both bodies of a call.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    requests: http2::SendRequest<WithGuard<Outgoing, ActiveCall>>,
    calls: Arc<()>,
}

/// The connections to one upstream. Each has the number of the sweep since which it is idle.
#[derive(Debug, Default)]
pub(super) struct Shared {
    connections: Vec<(Sender, u32)>,
    sweeps: u32,
}

/// The body of a response. It counts as a call until its end.
pub(crate) type Incoming = WithGuard<hyper::body::Incoming, ActiveCall>;

/// Counts one call until both of its bodies are dropped. A response may end before its request.
type ActiveCall = Arc<Arc<()>>;

impl Sender {
    pub(super) async fn new(stream: Stream) -> hyper::Result<Self> {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .initial_stream_window_size(ANSWER_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER_BYTES)
            .handshake(stream);
        let (requests, connection) = handshake.await?;
        tokio::spawn(async move {
            if let Err(reason) = connection.await {
                debug!(%reason, "a connection ended early");
            }
        });
        Ok(Self {
            requests,
            calls: Arc::new(()),
        })
    }

    /// Sends the request and waits for the head of its response.
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
        let active_call = Arc::new(self.calls);
        let mut request = Request::new(WithGuard::new(body, Arc::clone(&active_call)));
        *request.method_mut() = outbound.method.clone();
        *request.uri_mut() = origin.with(outbound.uri);
        *request.headers_mut() = headers;
        match self.requests.try_send_request(request).await {
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::HTTP_11;
                Ok(response.map(|body| WithGuard::new(body, active_call)))
            }
            Err(mut failed) => Err(Failed {
                unsent: failed
                    .take_message()
                    .map(|request| request.into_body().into_inner()),
                error: failed.into_error().into(),
            }),
        }
    }

    /// How many calls are in flight on a connection that is kept in `Shared`.
    fn calls(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }

    fn has_capacity(&self) -> bool {
        !self.requests.is_closed() && self.calls() < CALLS
    }
}

impl Shared {
    /// A connection that can take a call.
    pub(super) fn available(&self) -> Option<Sender> {
        let mut senders = self.connections.iter().map(|(sender, _)| sender);
        senders.find(|sender| sender.has_capacity()).cloned()
    }

    /// Keeps a new connection for other calls, unless one is available. When many calls connect at once, one is
    /// enough.
    pub(super) fn keep(&mut self, sender: &Sender) {
        if self.available().is_none() {
            self.connections.push((sender.clone(), self.sweeps));
        }
    }

    /// Drops connections that have been idle for long, and closed ones.
    pub(super) fn sweep(&mut self, idle_sweeps: u32) {
        self.sweeps = self.sweeps.wrapping_add(1);
        let now = self.sweeps;
        self.connections.retain_mut(|(sender, since)| {
            if sender.calls() > 0 {
                *since = now;
            }
            !sender.requests.is_closed() && now.wrapping_sub(*since) < idle_sweeps
        });
    }
}

#[cfg(test)]
mod tests;
