//! What a caller sends over its connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::tcp::OwnedReadHalf;
use tokio_util::io::poll_read_buf;

use crate::listen::BUFFER_BYTES;

/// Room for the first read, in bytes: a head and what most bodies have.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// With less room a read is not worth its call.
const LEAST_READ_BYTES: usize = 1024;

/// The reading side of a connection. Whoever has it is the only one who reads.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) stream: OwnedReadHalf,
    /// What has come and was not used yet.
    pub(super) read: BytesMut,
    /// How much the next read takes at most.
    room: usize,
}

impl Inlet {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            room: FIRST_READ_BYTES,
        }
    }

    /// How many bytes came; none at the end.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Before there is room: who has nothing to read, as most have most of the time, needs none.
        ready!(self.stream.as_ref().poll_read_ready(context))?;
        // What is left of the last room is used up: pieces of a body that comes in drips would each
        // keep a whole one.
        if self.read.capacity() - self.read.len() < LEAST_READ_BYTES {
            self.read.reserve(self.room);
        }
        let count = ready!(poll_read_buf(
            Pin::new(&mut self.stream),
            context,
            &mut self.read
        ))?;
        if count >= self.room {
            self.room = BUFFER_BYTES;
        }
        Poll::Ready(Ok(count))
    }

    /// As much as it needs between two requests: nothing.
    pub(super) fn rest(&mut self) {
        self.room = FIRST_READ_BYTES;
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn drops_of_a_body_share_their_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (reader, _writer) = listener.accept().await.unwrap().0.into_split();
        let mut inlet = Inlet::new(reader);
        let mut blocks = HashSet::new();
        for drops in 0..1000 {
            caller.write_all(b"x").await.unwrap();
            poll_fn(|context| inlet.poll_read(context)).await.unwrap();
            let drop = inlet.read.split().freeze();
            blocks.insert(drop.as_ptr().addr() - drops);
        }
        assert_eq!(blocks.len(), 1, "one after another in one block");
    }
}
