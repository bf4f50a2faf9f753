//! HTTP/2 with one other side: connections that calls share.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::listen::BUFFER_BYTES;
use tracing::debug;

use super::error::Failed;
use crate::upstream::body::{Keeping, Outgoing};
use crate::upstream::connector::Stream;
use crate::upstream::headers::strip_hop_by_hop;
use crate::upstream::outbound::{Origin, Outbound};

/// How long a connection with calls on it may be silent before it is asked whether it is there, and
/// how long it has to say so.
const SILENCE: Duration = Duration::from_secs(10);

/// The most calls on a connection at once. Servers should allow at least this many (RFC 9113, 6.5.2). Calls beyond
/// a server's limit wait within hyper, and others could not use their turn at GHL.
const CALLS: usize = 100;

/// How much of an answer may come before its caller takes it, in bytes: 12 MB/s with 20 ms to GHL.
const ANSWER_WINDOW: u32 = 256 * 1024;

/// And of all answers on a connection: as much as can be said. With less, callers who take nothing
/// would stop the answers to all others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A connection. Every clone is a call on it, and so are both bodies of one.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    requests: http2::SendRequest<Keeping<Outgoing, UnderWay>>,
    calls: Arc<()>,
}

/// The connections to one other side, each with the turn of the sweeper since which it is idle.
#[derive(Debug, Default)]
pub(super) struct Shared {
    connections: Vec<(Sender, u32)>,
    turn: u32,
}

/// The body of an answer: a call until its end.
pub(crate) type Incoming = Keeping<hyper::body::Incoming, UnderWay>;

/// One call, for as long as one of its bodies is there: an answer may end before its request.
type UnderWay = Arc<Arc<()>>;

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
        let under_way = Arc::new(self.calls);
        let mut request = Request::new(Keeping::new(body, Arc::clone(&under_way)));
        *request.method_mut() = outbound.method.clone();
        *request.uri_mut() = origin.with(outbound.uri);
        *request.headers_mut() = headers;
        match self.requests.try_send_request(request).await {
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::HTTP_11;
                Ok(response.map(|body| Keeping::new(body, under_way)))
            }
            Err(mut failed) => Err(Failed {
                unsent: failed
                    .take_message()
                    .map(|request| request.into_body().into_inner()),
                error: failed.into_error().into(),
            }),
        }
    }

    /// How many calls are under way on it, where it is kept.
    fn calls(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }

    fn has_room(&self) -> bool {
        !self.requests.is_closed() && self.calls() < CALLS
    }
}

impl Shared {
    /// One that can take a call.
    pub(super) fn with_room(&self) -> Option<Sender> {
        let mut senders = self.connections.iter().map(|(sender, _)| sender);
        senders.find(|sender| sender.has_room()).cloned()
    }

    /// Keeps a new one for others, unless they have one by now: of many who connect at once, one is enough.
    pub(super) fn keep(&mut self, sender: &Sender) {
        if self.with_room().is_none() {
            self.connections.push((sender.clone(), self.turn));
        }
    }

    /// Lets go of what has been idle for long, and of what is closed.
    pub(super) fn sweep(&mut self, idle_turns: u32) {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        self.connections.retain_mut(|(sender, since)| {
            if sender.calls() > 0 {
                *since = turn;
            }
            !sender.requests.is_closed() && turn.wrapping_sub(*since) < idle_turns
        });
    }
}

#[cfg(test)]
mod tests;
