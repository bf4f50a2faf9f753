//! HTTP/1.1 with one other side, within the task of whoever calls: write the request, read the answer.
//!
//! hyper's client serves a connection in a task of its own. A request, its answer and the answer's
//! body then cross between two tasks, and that was a fifth of a gateway's instructions.

mod head;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Response};
use http_body::{Body as _, SizeHint};
use hyper_util::rt::TokioIo;
use service::http1::{Coding, Framing, Malformed, Message, Names, Unsent};
use service::listen::BUFFER_BYTES;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio_util::io::poll_read_buf;

use super::{Failed, Outbound};
use crate::body::{Broken, Outgoing};
use crate::connector;
use head::Head;

/// Room for the first read of an answer, in bytes: a head and what most bodies have.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// With less room a read is not worth its call.
const LEAST_READ_BYTES: usize = 1024;

/// A connection, for one call at a time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TokioIo<connector::Stream>,
    request: Message<Outgoing>,
    /// What has come and was not used yet: nothing, between two calls.
    read: BytesMut,
    names: Names,
    /// How much the next read takes at most.
    room: usize,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` once it has been given back, or has failed.
    connection: Option<Box<Connection>>,
    framing: Framing,
    is_kept: bool,
    /// It says that the request was not taken.
    is_refusal: bool,
}

/// Why an answer did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the connection was closed before the end of the answer")]
    Closed,
    #[error("that is no answer in HTTP/1.1: {0}")]
    Malformed(#[from] Malformed),
    #[error("the request's body failed")]
    Body(#[from] Broken),
}

impl Connection {
    pub(super) fn new(stream: connector::Stream) -> Box<Self> {
        Box::new(Self {
            stream: TokioIo::new(stream),
            request: Message::default(),
            read: BytesMut::new(),
            names: Names::default(),
            room: FIRST_READ_BYTES,
        })
    }

    /// Sends the request and waits for the head of its answer.
    pub(super) async fn call(
        mut self: Box<Self>,
        request: Outbound<'_>,
        host: &HeaderValue,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Failed> {
        self.request = message(request, host, body);
        let answered = poll_fn(|context| self.poll_call(request.method, context)).await;
        match answered {
            Ok(head) => {
                let body = Incoming {
                    connection: Some(self),
                    framing: head.framing,
                    is_kept: head.is_kept,
                    is_refusal: head.is_refusal(),
                };
                Ok(head.into_response(body))
            }
            Err(error) => {
                let unsent = self.take_unsent();
                Err(Failed {
                    error: error.into(),
                    unsent,
                })
            }
        }
    }

    /// Sends the rest of a request that was answered already.
    pub(super) async fn finish(mut self: Box<Self>) {
        // Nobody waits for the outcome.
        let _ = poll_fn(|context| self.poll_send(context)).await;
    }

    /// Whether it can take a call: the other side has neither closed it nor sent what nobody asked
    /// for.
    pub(super) fn is_open(&mut self) -> bool {
        let stream = &mut self.stream;
        // What a task has no time left to look at is no open connection.
        let reading = pin!(unconstrained(poll_fn(|context| {
            let mut byte = [0];
            Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut byte))
        })));
        let mut context = Context::from_waker(Waker::noop());
        reading.poll(&mut context).is_pending()
    }

    fn poll_call(
        &mut self,
        method: &Method,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, Error>> {
        let mut failure = None;
        if !self.request.is_sent() {
            match self.poll_send(context) {
                Poll::Ready(Err(Error::Body(broken))) => return Poll::Ready(Err(broken.into())),
                // Who closes without having read all may have said why.
                Poll::Ready(Err(error)) => failure = Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        match (self.poll_head(method, context), failure) {
            (Poll::Ready(Err(_)), Some(failure)) => Poll::Ready(Err(failure)),
            (Poll::Pending, Some(failure)) if !self.request.has_begun() => {
                Poll::Ready(Err(failure))
            }
            // Where the other side is gone, there will be something to read soon: its answer or its end.
            (head, _) => head,
        }
    }

    fn poll_head(
        &mut self,
        method: &Method,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, Error>> {
        loop {
            if !self.read.is_empty()
                && let Some(head) = head::parse(&mut self.read, method, &mut self.names)?
            {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(Error::Closed));
            }
        }
    }

    /// How many bytes came; none at the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // What is left of the last room is used up: pieces of an answer that comes in drips would each
        // keep a whole one.
        if self.read.capacity() - self.read.len() < LEAST_READ_BYTES {
            self.read.reserve(self.room);
        }
        let stream = Pin::new(&mut self.stream);
        let count = ready!(poll_read_buf(stream, context, &mut self.read))?;
        if count >= self.room {
            self.room = BUFFER_BYTES;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let stream = Pin::new(&mut self.stream);
        let sent = ready!(self.request.poll_send(stream, context));
        Poll::Ready(sent.map_err(|unsent| match unsent {
            Unsent::Io(reason) => reason.into(),
            Unsent::Body(broken) => broken.into(),
            Unsent::Length => Broken::Length.into(),
        }))
    }

    /// The request's body, where no byte of the request was sent.
    fn take_unsent(&mut self) -> Option<Outgoing> {
        if self.request.has_begun() {
            return None;
        }
        let (held, body) = self.request.take_body();
        Some(body.unwrap_or(Outgoing::Held(held)))
    }
}

/// The request as it is sent.
fn message(request: Outbound<'_>, host: &HeaderValue, body: Outgoing) -> Message<Outgoing> {
    let coding = coding(&body, request.method);
    let mut head = BytesMut::new();
    head::write(&mut head, request, host, coding);
    match body {
        // With its head, in one piece.
        Outgoing::Held(bytes) => Message::new(head, coding, bytes, None),
        stream @ Outgoing::Stream { .. } => Message::new(head, coding, Bytes::new(), Some(stream)),
    }
}

fn coding(body: &Outgoing, method: &Method) -> Coding {
    let length = body.size_hint().exact();
    match length {
        // Where a body is usual, to have none is said: RFC 9110, 8.6.
        Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            Coding::Nothing
        }
        Some(length) => Coding::Length(length),
        None => Coding::Chunks,
    }
}

impl Incoming {
    pub(super) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let polled = self.poll(context);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.connection = None;
        }
        polled
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        // An answer may begin before its request has ended.
        if !connection.request.is_sent()
            && let Poll::Ready(Err(_)) = connection.poll_send(context)
        {
            // As if it were sent: there is nothing more to do about it.
            connection.request = Message::default();
            self.is_refusal = true;
            self.is_kept = false;
        }
        loop {
            if let Some(data) = self.framing.next(&mut connection.read)? {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.framing.is_over() {
                return Poll::Ready(None);
            }
            if ready!(connection.poll_read(context))? == 0 {
                let is_whole = self.framing.closed();
                return Poll::Ready((!is_whole).then_some(Err(Error::Closed)));
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.framing.size_hint()
    }

    /// The connection, once the answer is over, if it can take another call.
    pub(super) fn give_back(&mut self) -> Option<Box<Connection>> {
        let connection = self.connection.as_ref()?;
        let is_free = self.is_kept
            && self.framing.is_over()
            && connection.request.is_sent()
            && connection.read.is_empty();
        if !is_free {
            return None;
        }
        let mut connection = self.connection.take()?;
        connection.room = FIRST_READ_BYTES;
        connection.read = BytesMut::new();
        Some(connection)
    }

    /// The connection, once the answer is over, if the request is not: who was answered before it had
    /// all may want the rest all the same.
    pub(super) fn take_unfinished(&mut self) -> Option<Box<Connection>> {
        let connection = self.connection.as_ref()?;
        let is_unfinished =
            !self.is_refusal && self.framing.is_over() && !connection.request.is_sent();
        is_unfinished.then(|| self.connection.take())?
    }
}

#[cfg(test)]
mod tests;
