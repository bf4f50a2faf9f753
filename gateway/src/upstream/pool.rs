//! The connections of one worker to one upstream: idle HTTP/1.1 connections, most recently used first, or HTTP/2
//! connections, which calls share.

mod error;
mod http1;
mod http2;

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::connect::Connection as _;
use service::locks::lock;
use tokio::time::{interval, timeout};
use tower::ServiceExt;

use super::body::Outgoing;
use super::connector::Connector;
use super::outbound::{Origin, Outbound};
use error::Failed;
use http1::Released;

pub(crate) use error::{Error, NoResponse};

/// Shorter than the idle timeout of common servers and load balancers. So the pool is almost always the side that
/// closes, and no request is sent on a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the rest of a request is sent after its response has ended.
const UNFINISHED_TIMEOUT: Duration = Duration::from_secs(60);

/// How many sweeps in a row find a connection idle before it is closed.
const IDLE_SWEEPS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    origin: Origin,
    host: HeaderValue,
    idle: Mutex<Idle>,
    shared: Mutex<http2::Shared>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The most recently used connection is last. Each has the number of the sweep since which it is idle.
    connections: Vec<(Box<http1::Connection>, u32)>,
    /// The number of sweeps. It is a clock that needs no system call.
    sweeps: u32,
}

/// A connection of the protocol that the upstream negotiated.
enum Connection {
    Own(Box<http1::Connection>),
    Shared(http2::Sender),
}

/// The body of a response. Dropping it before its end closes the connection or the stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    Http1(http1::Incoming, Arc<Pool>),
    Http2(http2::Incoming),
}

impl Pool {
    /// An empty pool. It must be created within the runtime that runs its connections.
    pub(crate) fn new(connector: Connector, origin: Origin) -> Arc<Self> {
        let host = HeaderValue::from_str(origin.authority.as_str());
        let pool = Arc::new(Self {
            connector,
            host: host.unwrap_or_else(|_| HeaderValue::from_static("")),
            origin,
            idle: Mutex::default(),
            shared: Mutex::default(),
        });
        let swept = Arc::downgrade(&pool);
        tokio::spawn(async move {
            let mut ticks = interval(IDLE_TIMEOUT / IDLE_SWEEPS);
            loop {
                ticks.tick().await;
                let Some(pool) = swept.upgrade() else { return };
                lock(&pool.idle).sweep();
                lock(&pool.shared).sweep(IDLE_SWEEPS);
            }
        });
        pool
    }

    /// Sends the request and waits for the head of its response.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Outbound<'_>,
        mut body: Outgoing,
    ) -> Result<Response<Incoming>, NoResponse> {
        while let Some(connection) = self.take() {
            match self.call(connection, request, body).await {
                Ok(response) => return Ok(response),
                // The connection was just closed, and no byte of the request was sent.
                Err(Failed {
                    unsent: Some(unsent),
                    ..
                }) => body = unsent,
                Err(failed) => return Err(failed.error.into()),
            }
        }
        // Boxed, since it is rare and would make the future of every call larger.
        Box::pin(self.send_elsewhere(request, body)).await
    }

    /// Sends over a shared connection, or a new one.
    async fn send_elsewhere(
        self: &Arc<Self>,
        request: Outbound<'_>,
        mut body: Outgoing,
    ) -> Result<Response<Incoming>, NoResponse> {
        let shared = lock(&self.shared).available();
        if let Some(shared) = shared {
            match shared.call(&self.origin, request, body).await {
                Ok(response) => return Ok(response.map(Incoming::Http2)),
                Err(Failed {
                    unsent: Some(unsent),
                    ..
                }) => body = unsent,
                Err(failed) => return Err(failed.error.into()),
            }
        }
        let connection = self.connect().await.map_err(NoResponse::NotConnected)?;
        match connection {
            Connection::Own(connection) => {
                let answered = self.call(connection, request, body).await;
                answered.map_err(|failed| failed.error.into())
            }
            Connection::Shared(shared) => {
                let answered = shared.call(&self.origin, request, body).await;
                let response = answered.map_err(|failed| failed.error)?;
                Ok(response.map(Incoming::Http2))
            }
        }
    }

    async fn call(
        self: &Arc<Self>,
        connection: Box<http1::Connection>,
        request: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Failed> {
        let response = connection.call(request, &self.host, body).await?;
        Ok(response.map(|mut body| {
            if body.is_over() {
                self.take_back(&mut body);
            }
            Incoming::Http1(body, Arc::clone(self))
        }))
    }

    fn take(&self) -> Option<Box<http1::Connection>> {
        lock(&self.idle).take()
    }

    /// Called once a response was read to its end.
    fn take_back(&self, body: &mut http1::Incoming) {
        match body.take_connection() {
            Some(Released::Idle(connection)) => lock(&self.idle).put(connection),
            Some(Released::Unfinished(connection)) => {
                tokio::spawn(timeout(UNFINISHED_TIMEOUT, connection.finish()));
            }
            None => {}
        }
    }

    async fn connect(&self) -> Result<Connection, Box<dyn StdError + Send + Sync>> {
        let to = self.origin.with(&Uri::default());
        let stream = self.connector.clone().oneshot(to).await?;
        if stream.connected().is_negotiated_h2() {
            let shared = http2::Sender::new(stream).await?;
            lock(&self.shared).keep(&shared);
            return Ok(Connection::Shared(shared));
        }
        Ok(Connection::Own(http1::Connection::new(stream).await?))
    }
}

impl Idle {
    /// A connection that can take a request now.
    fn take(&mut self) -> Option<Box<http1::Connection>> {
        while let Some((mut connection, _)) = self.connections.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&mut self, connection: Box<http1::Connection>) {
        self.connections.push((connection, self.sweeps));
    }

    /// Drops connections that have been idle for long, and those that the upstream has closed.
    fn sweep(&mut self) {
        self.sweeps = self.sweeps.wrapping_add(1);
        let now = self.sweeps;
        self.connections.retain_mut(|(connection, since)| {
            now.wrapping_sub(*since) < IDLE_SWEEPS && connection.is_open()
        });
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Http1(body, pool) => {
                let frame = ready!(body.poll_frame(context));
                // Already now, and not when the caller has read everything. The upstream has sent it all.
                if frame.is_none() || body.is_over() {
                    pool.take_back(body);
                }
                Poll::Ready(frame.map(|frame| Ok(frame?)))
            }
            Self::Http2(body) => Pin::new(body).poll_frame(context).map_err(Error::Http),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) => body.is_over(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests;
