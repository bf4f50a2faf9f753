//! HTTP/1.1 connections to one upstream. The task of the call polls hyper's connection. In a separate task, the
//! request, its response and the response body would cross between two tasks.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use service::limits::BUFFER_BYTES;
use tokio::task::coop::unconstrained;

use super::error::{Error, Failed};
use crate::upstream::body::Outgoing;
use crate::upstream::connector::Stream;
use crate::upstream::headers::strip_hop_by_hop;
use crate::upstream::outbound::Outbound;

/// A connection, for one call at a time.
#[derive(Debug)]
pub(super) struct Connection {
    requests: SendRequest<Outgoing>,
    /// `None` once the connection has ended.
    driver: Option<http1::Connection<Stream, Outgoing>>,
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
    /// `None` once the connection was returned to the pool.
    connection: Option<Box<Connection>>,
    /// The response has an error status, so the request was not accepted.
    is_refusal: bool,
}

impl Connection {
    pub(super) async fn new(stream: Stream) -> hyper::Result<Box<Self>> {
        let handshake = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(stream);
        let (requests, driver) = handshake.await?;
        Ok(Box::new(Self {
            requests,
            driver: Some(driver),
        }))
    }

    /// Sends the request and waits for the head of its response.
    pub(super) async fn call(
        mut self: Box<Self>,
        outbound: Outbound<'_>,
        host: &HeaderValue,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Failed> {
        let request = request(outbound, host, body);
        // A task that has used up its cooperative budget would not be woken for a response that is ready.
        let mut answering = pin!(unconstrained(self.requests.try_send_request(request)));
        let answered = poll_fn(|context| {
            Self::drive(&mut self.driver, context);
            // Only this task makes progress, so no other task has to wake it.
            answering
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        });
        match answered.await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(Failed {
                error: Error::Upgrade,
                unsent: None,
            }),
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                let status = response.status();
                Ok(response.map(|body| Incoming {
                    body,
                    connection: Some(self),
                    is_refusal: status.is_client_error() || status.is_server_error(),
                }))
            }
            Err(mut failed) => Err(Failed {
                unsent: failed.take_message().map(Request::into_body),
                error: failed.into_error().into(),
            }),
        }
    }

    /// Sends the rest of a request whose response has already ended.
    pub(super) async fn finish(self: Box<Self>) {
        let Self { requests, driver } = *self;
        drop(requests);
        if let Some(driver) = driver {
            // The outcome does not matter.
            let _ = driver.await;
        }
    }

    /// Whether it can take a call. The upstream has neither closed it nor sent unexpected bytes.
    pub(super) fn is_open(&mut self) -> bool {
        // A task that has used up its cooperative budget would see every connection as open.
        let checking = pin!(unconstrained(poll_fn(|context| {
            Self::drive(&mut self.driver, context);
            Poll::Ready(())
        })));
        let _ = checking.poll(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.requests.is_ready()
    }

    fn drive(driver: &mut Option<http1::Connection<Stream, Outgoing>>, context: &mut Context<'_>) {
        // The error is reported to the waiting call.
        if let Some(running) = driver
            && Pin::new(running).poll(context).is_ready()
        {
            *driver = None;
        }
    }
}

fn request(outbound: Outbound<'_>, host: &HeaderValue, body: Outgoing) -> Request<Outgoing> {
    let mut headers = HeaderMap::with_capacity(EXPECTED_HEADERS);
    headers.insert(HOST, host.clone());
    outbound.headers.for_each(|name, value| {
        headers.append(name, value.clone());
    });
    let expects_body = matches!(*outbound.method, Method::POST | Method::PUT | Method::PATCH);
    if expects_body && body.is_end_stream() {
        // RFC 9110, 8.6. hyper does not add it for an empty body.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut request = Request::new(body);
    *request.method_mut() = outbound.method.clone();
    *request.uri_mut() = outbound.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Enough for most requests.
const EXPECTED_HEADERS: usize = 16;

impl Incoming {
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut unwoken = Context::from_waker(Waker::noop());
        // hyper continues reading only after the body was polled.
        let before = Pin::new(&mut self.body).poll_frame(&mut unwoken);
        let Some(connection) = &mut self.connection else {
            return before;
        };
        if before.is_ready() {
            return before;
        }
        Connection::drive(&mut connection.driver, context);
        Pin::new(&mut self.body).poll_frame(&mut unwoken)
    }

    pub(super) fn is_over(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// The connection, once its response was read to the end.
    pub(super) fn take_connection(&mut self) -> Option<Released> {
        let mut connection = self.connection.take()?;
        if connection.is_open() {
            return Some(Released::Idle(connection));
        }
        // The upstream may need the rest of a request that it has accepted.
        let is_unfinished = connection.driver.is_some() && !self.is_refusal;
        is_unfinished.then_some(Released::Unfinished(connection))
    }
}

/// A connection whose response was read to its end.
pub(super) enum Released {
    Idle(Box<Connection>),
    /// Its request is still being sent.
    Unfinished(Box<Connection>),
}
