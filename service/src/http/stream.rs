//! A caller's connection. It reports its activity, and does a lingering close.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::activity::Activity;
use super::socket::Socket;

/// How long a caller's bytes are discarded after the last response. Closing a socket with unread bytes resets the
/// connection, and the caller loses the part of the response that it has not read. For example, a caller that
/// uploads a file with a wrong key would see a broken connection instead of the 401.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// How many bytes are discarded with one read.
const DISCARDED_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    activity: Arc<Activity>,
    /// Set once everything was sent.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(socket: Socket, activity: Arc<Activity>) -> Self {
        Self {
            socket,
            activity,
            closing: None,
        }
    }

    /// Reads and discards bytes until the caller closes its side.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); DISCARDED_BYTES];
        loop {
            let mut discarded = ReadBuf::uninit(&mut bytes);
            ready!(self.socket.poll_read_raw(context, &mut discarded))?;
            if discarded.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.activity.written();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, slices))?;
        self.activity.written();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// A lingering close. Sends a FIN, then reads until the caller has closed, too.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
            self.closing = Some(Box::pin(sleep(LINGER)));
        }
        // Polled first, since a caller that never stops sending would use up this task's cooperative budget.
        if let Some(patience) = &mut self.closing
            && patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        // The response was sent, so an error changes nothing.
        self.poll_discard(context).map(|_| Ok(()))
    }
}

impl Drop for Stream {
    /// An HTTP/1.0 caller takes a closed connection as the end of the response. A reset signals the failure.
    fn drop(&mut self) {
        if self.activity.is_broken()
            && let Err(reason) = SockRef::from(self.socket.tcp()).set_linger(Some(Duration::ZERO))
        {
            debug!(%reason, "cannot reset a connection");
        }
    }
}
