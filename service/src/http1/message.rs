//! A message on its way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// What of a message is still to be sent.
#[derive(Debug)]
pub struct Message<B> {
    head: BytesMut,
    data: Bytes,
    after_data: &'static [u8],
    body: Option<B>,
    coding: Coding,
    has_begun: bool,
    is_sent: bool,
}

/// How the other side is told where a body ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coding {
    #[default]
    Nothing,
    /// So many bytes are left.
    Length(u64),
    Chunks,
    /// By closing the connection.
    UntilClosed,
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum Unsent<E> {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("its body failed")]
    Body(#[source] E),
    #[error("its body has another length than was said")]
    Length,
}

impl<B> Default for Message<B> {
    /// Nothing, all of which is sent.
    fn default() -> Self {
        Self {
            head: BytesMut::new(),
            data: Bytes::new(),
            after_data: b"",
            body: None,
            coding: Coding::Nothing,
            has_begun: false,
            is_sent: true,
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Message<B> {
    /// One whose body, or its start, goes with its head in one piece.
    pub fn new(head: BytesMut, coding: Coding, data: Bytes, body: Option<B>) -> Self {
        Self {
            head,
            data,
            body,
            coding,
            is_sent: false,
            ..Self::default()
        }
    }

    /// A byte of it was written.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// The start of the body and the rest of it.
    pub fn take_body(&mut self) -> (Bytes, Option<B>) {
        (std::mem::take(&mut self.data), self.body.take())
    }

    /// Takes what the body has ready before anything is sent, so that it goes with the head.
    ///
    /// # Errors
    /// When the body fails.
    pub fn poll_first(&mut self, context: &mut Context<'_>) -> Result<(), Unsent<B::Error>> {
        match self.poll_body(context) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// When the connection fails or the body does.
    pub fn poll_send(
        &mut self,
        mut stream: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent<B::Error>>> {
        if self.is_sent {
            return Poll::Ready(Ok(()));
        }
        loop {
            while self.has_bytes() {
                ready!(self.poll_write(stream.as_mut(), context))?;
            }
            if self.body.is_none() {
                ready!(stream.as_mut().poll_flush(context))?;
                // Not kept for as long as the connection lives.
                *self = Self {
                    has_begun: true,
                    ..Self::default()
                };
                return Poll::Ready(Ok(()));
            }
            match self.poll_body(context) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => {
                    let _ = stream.as_mut().poll_flush(context)?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn has_bytes(&self) -> bool {
        !self.head.is_empty() || !self.data.is_empty() || !self.after_data.is_empty()
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent<B::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(()));
        };
        let outcome = match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.put(data),
                // Trailers end here, as their announcement did.
                Err(_) => Ok(()),
            },
            Some(Err(error)) => Err(Unsent::Body(error)),
            None => self.finish(),
        };
        Poll::Ready(outcome)
    }

    /// The next bytes of the body.
    fn put(&mut self, data: Bytes) -> Result<(), Unsent<B::Error>> {
        let count = data.len();
        // As a chunk it would be the last.
        if count == 0 {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Chunks => {
                let line = format!("{count:x}\r\n");
                self.head.extend_from_slice(line.as_bytes());
                self.after_data = b"\r\n";
            }
            Coding::Length(left) => {
                *left = left.checked_sub(count as u64).ok_or(Unsent::Length)?;
            }
            Coding::UntilClosed => {}
            Coding::Nothing => return Err(Unsent::Length),
        }
        self.data = data;
        Ok(())
    }

    /// There is no more of the body.
    fn finish(&mut self) -> Result<(), Unsent<B::Error>> {
        self.body = None;
        match self.coding {
            Coding::Chunks => self.after_data = b"0\r\n\r\n",
            Coding::Nothing | Coding::Length(0) | Coding::UntilClosed => {}
            Coding::Length(_) => return Err(Unsent::Length),
        }
        Ok(())
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
}
