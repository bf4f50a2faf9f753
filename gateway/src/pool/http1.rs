//! HTTP/1.1 with one other side, within the task of whoever calls: write the request, read the answer.
//!
//! hyper's client serves a connection in a task of its own. A request, its answer and the answer's
//! body then cross between two tasks, and that was a fifth of a gateway's instructions.

mod framing;
mod head;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Method, Response};
use http_body::{Body as _, SizeHint};
use hyper_util::rt::TokioIo;
use service::listen::BUFFER_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::{Failed, Outbound};
use crate::body::{Broken, Outgoing};
use crate::connector;
use framing::Framing;
use head::{Head, Names};

/// Room for the first read of an answer, in bytes: a head and what most bodies have.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// A connection, for one call at a time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TokioIo<connector::Stream>,
    request: Request,
    /// What has come and was not used yet: nothing, between two calls.
    read: BytesMut,
    names: Names,
    /// How much the next read takes at most.
    room: usize,
}

/// What of a request is still to be sent.
#[derive(Debug, Default)]
struct Request {
    head: BytesMut,
    data: Bytes,
    after_data: &'static [u8],
    body: Option<Outgoing>,
    coding: Coding,
    has_begun: bool,
    is_sent: bool,
}

/// How the other side is told where a request's body ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Nothing,
    /// So many bytes are left.
    Length(u64),
    Chunks,
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

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("{0}")]
    Head(#[from] httparse::Error),
    #[error("its head is longer than {BUFFER_BYTES} bytes")]
    LongHead,
    #[error("it changes the protocol, which nobody asked for")]
    Upgrade,
    #[error("its length is no number, or several")]
    Length,
    #[error("it has a length and chunks")]
    LengthAndChunks,
    #[error("its transfer coding is another than `chunked`")]
    Coding,
    #[error("its chunks")]
    Chunks,
}

impl Connection {
    pub(super) fn new(stream: connector::Stream) -> Box<Self> {
        Box::new(Self {
            stream: TokioIo::new(stream),
            request: Request::default(),
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
        self.request.begin(request, host, body);
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
                let unsent = self.request.take_unsent();
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
        if !self.request.is_sent {
            match self.poll_send(context) {
                Poll::Ready(Err(Error::Body(broken))) => return Poll::Ready(Err(broken.into())),
                // Who closes without having read all may have said why.
                Poll::Ready(Err(error)) => failure = Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        match (self.poll_head(method, context), failure) {
            (Poll::Ready(Err(_)), Some(failure)) => Poll::Ready(Err(failure)),
            (Poll::Pending, Some(failure)) if !self.request.has_begun => Poll::Ready(Err(failure)),
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
        self.read.reserve(self.room);
        let stream = Pin::new(&mut self.stream);
        let count = ready!(poll_read_buf(stream, context, &mut self.read))?;
        if count >= self.room {
            self.room = BUFFER_BYTES;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self {
            stream, request, ..
        } = self;
        let mut stream = Pin::new(stream);
        loop {
            while request.has_bytes() {
                ready!(request.poll_write(stream.as_mut(), context))?;
            }
            let Some(body) = &mut request.body else {
                ready!(stream.as_mut().poll_flush(context))?;
                request.is_sent = true;
                // Not kept for as long as its answer takes, or the connection lives.
                request.data = Bytes::new();
                return Poll::Ready(Ok(()));
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(frame)) => {
                    // Trailers end here, as their announcement did.
                    if let Ok(data) = frame?.into_data() {
                        request.put(data)?;
                    }
                }
                Poll::Ready(None) => request.finish()?,
                Poll::Pending => {
                    let _ = stream.as_mut().poll_flush(context)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Request {
    fn begin(&mut self, request: Outbound<'_>, host: &HeaderValue, body: Outgoing) {
        self.coding = Coding::of(&body, request.method);
        self.head.clear();
        head::write(&mut self.head, request, host, self.coding);
        (self.data, self.body) = match body {
            // With its head, in one piece.
            Outgoing::Held(bytes) => (bytes, None),
            stream @ Outgoing::Stream { .. } => (Bytes::new(), Some(stream)),
        };
        self.after_data = b"";
        self.has_begun = false;
        self.is_sent = false;
    }

    fn has_bytes(&self) -> bool {
        !self.head.is_empty() || !self.data.is_empty() || !self.after_data.is_empty()
    }

    fn poll_write(
        &mut self,
        stream: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let count = if self.data.is_empty() && self.after_data.is_empty() {
            let count = ready!(stream.poll_write(context, &self.head))?;
            self.head.advance(count);
            count
        } else {
            let head = &mut self.head;
            let rest = (&mut self.data).chain(&mut self.after_data);
            ready!(poll_write_buf(stream, context, &mut head.chain(rest)))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.has_begun = true;
        Poll::Ready(Ok(()))
    }

    /// The next bytes of the body.
    fn put(&mut self, data: Bytes) -> Result<(), Broken> {
        let count = data.len();
        // As a chunk it would be the last.
        if count == 0 {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Chunks => {
                self.head
                    .extend_from_slice(format!("{count:x}\r\n").as_bytes());
                self.after_data = b"\r\n";
            }
            Coding::Length(left) => {
                *left = left.checked_sub(count as u64).ok_or(Broken::Length)?;
            }
            Coding::Nothing => return Err(Broken::Length),
        }
        self.data = data;
        Ok(())
    }

    /// There is no more of the body.
    fn finish(&mut self) -> Result<(), Broken> {
        self.body = None;
        match self.coding {
            Coding::Chunks => self.after_data = b"0\r\n\r\n",
            Coding::Nothing | Coding::Length(0) => {}
            Coding::Length(_) => return Err(Broken::Length),
        }
        Ok(())
    }

    fn take_unsent(&mut self) -> Option<Outgoing> {
        if self.has_begun {
            return None;
        }
        let held = Outgoing::Held(std::mem::take(&mut self.data));
        Some(self.body.take().unwrap_or(held))
    }
}

impl Coding {
    fn of(body: &Outgoing, method: &Method) -> Self {
        let length = body.size_hint().exact();
        match length {
            // Where a body is usual, to have none is said: RFC 9110, 8.6.
            Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                Self::Nothing
            }
            Some(length) => Self::Length(length),
            None => Self::Chunks,
        }
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
        if !connection.request.is_sent
            && let Poll::Ready(Err(_)) = connection.poll_send(context)
        {
            // As if it were sent: there is nothing more to do about it.
            connection.request = Request::default();
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
                let end = self.framing.closed().map_err(|()| Error::Closed);
                return Poll::Ready(end.err().map(Err));
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
            && connection.request.is_sent
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
            !self.is_refusal && self.framing.is_over() && !connection.request.is_sent;
        is_unfinished.then(|| self.connection.take())?
    }
}

#[cfg(test)]
mod tests;
