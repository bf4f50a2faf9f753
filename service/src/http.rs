//! Serves a connection with HTTP/1.1, or HTTP/2 with prior knowledge or by ALPN. hyper implements both. This module adds
//! timeouts, a lingering close, and checks against request smuggling.

mod activity;
mod check;
mod exchange;
mod socket;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::handler::Handler;
use crate::limits::{BUFFER_BYTES, IDLE_TIMEOUT};
use crate::tls::{Access, TlsAcceptor};
use activity::Activity;
use socket::Socket;
use stream::Stream;
use streams::Streams;

/// How many requests a connection of HTTP/2 may have in flight. RFC 9113, 6.5.2, advises to allow at least
/// a hundred.
const MAX_STREAMS: u32 = 200;

/// The largest head with HTTP/2, and how much of a body may arrive before it is read, in bytes. This allows 3 MB/s
/// with 20 ms to a caller.
const STREAM_WINDOW: u32 = BUFFER_BYTES as u32;

/// Enough for all streams, so that unread bodies do not block other streams of their connection.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Serves connections with one handler.
pub(crate) struct Server<H> {
    handler: H,
    /// `None` without TLS.
    tls: Option<TlsAcceptor>,
    builder: Builder<Streams>,
}

impl<H: Handler> Server<H> {
    pub(crate) fn new(handler: H, tls: Option<TlsAcceptor>) -> Self {
        let mut builder = Builder::new(Streams {
            answer_timeout: handler.answer_timeout(),
        });
        builder
            .http1()
            // Our timeouts cover the head, and idle connections, too.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER_BYTES)
            .max_header_list_size(STREAM_WINDOW);
        Self {
            handler,
            tls,
            builder,
        }
    }

    /// Serves until the caller closes the connection, a timeout ends, or `stop` is cancelled. After a stop, the
    /// requests in flight are finished.
    pub(crate) async fn serve(&self, tcp: TcpStream, stop: &CancellationToken) {
        let peer = tcp.peer_addr();
        // A caller that is gone already sends nothing.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.ip().to_canonical()
        });
        let (socket, access) = match &self.tls {
            None => (Socket::Plain(tcp), Access::Everything),
            // Boxed, since it would make the future of every connection larger.
            Some(tls) => match Box::pin(tls.handshake(tcp, stop)).await {
                Some((tls, access)) => (Socket::Tls(tls), access),
                None => return,
            },
        };
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request: Request<Incoming>| {
            let (handler, activity) = (self.handler.clone(), Arc::clone(&activity));
            async move {
                let response = exchange::answer(request, &handler, peer, access, activity).await;
                Ok::<_, Infallible>(response)
            }
        });
        let stream = TokioIo::new(Stream::new(socket, Arc::clone(&activity)));
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let mut stopped = pin!(stop.cancelled());
        let mut stopped_at = None;
        let mut timer = pin!(sleep_until(Instant::now() + IDLE_TIMEOUT));
        let served = poll_fn(|context| {
            if let Poll::Ready(served) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(served));
            }
            if stopped_at.is_none() && stopped.as_mut().poll(context).is_ready() {
                stopped_at = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
                if let Poll::Ready(served) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(served));
                }
            }
            // The timer is reset only when it fires or is too late. Resetting it for each request would cost more.
            while let Some(deadline) = activity.deadline(stopped_at) {
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(context));
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        });
        match served.await {
            Some(Ok(())) => {}
            Some(Err(reason)) => debug!(%reason, "a connection ended early"),
            None => debug!("a connection was closed at its timeout"),
        }
    }
}
