//! A proxy between a program and Redis that drops replies without closing connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::port;

const CHUNK: usize = 64 * 1024;
/// The begin of a pub/sub message after its length, in both protocol versions.
const INVALIDATION: &[u8] = b"$7\r\nmessage\r\n";

/// The replies to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    Nothing,
    /// Only pub/sub messages. Heartbeats are still answered.
    Invalidations,
    /// All replies on connections with a subscription, permanently.
    Subscriptions,
    /// All replies on all connections, permanently.
    Everything,
}

/// Closes its connections when dropped.
#[derive(Debug)]
pub struct RedisFaultProxy {
    pub url: String,
    dropped: watch::Sender<Dropped>,
    /// The number of dropped reads.
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl RedisFaultProxy {
    /// Listens in front of the Redis at this port, and drops nothing.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn to(server: u16) -> Self {
        let port = port::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let (dropped, dropped_changes) = watch::channel(Dropped::Nothing);
        let count = Arc::default();
        let task = serve(
            listener.expect("a free port"),
            server,
            dropped_changes,
            &count,
        );
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            dropped,
            task: tokio::spawn(task),
            count,
        }
    }

    /// Drops these replies from now on. A connection on which everything was dropped stays silent, as if its other
    /// end had vanished behind a proxy.
    pub fn drop_replies(&self, dropped: Dropped) {
        self.dropped.send_replace(dropped);
    }

    /// How many reads were dropped so far.
    #[must_use]
    pub fn dropped_count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for RedisFaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(
    listener: TcpListener,
    server: u16,
    dropped: watch::Receiver<Dropped>,
    count: &Arc<AtomicUsize>,
) -> impl Future<Output = ()> + use<> {
    let count = count.clone();
    async move {
        let mut connections = JoinSet::new();
        while let Ok((caller, _)) = listener.accept().await {
            connections.spawn(pass(caller, server, dropped.clone(), count.clone()));
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn pass(
    caller: TcpStream,
    server: u16,
    dropped: watch::Receiver<Dropped>,
    count: Arc<AtomicUsize>,
) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    let is_subscription = AtomicBool::new(false);
    let (requests, to_caller) = caller.into_split();
    let (replies, to_server) = server.into_split();
    tokio::select! {
        ended = forward_requests(requests, to_server, &is_subscription) => ended,
        ended = forward_replies(replies, to_caller, &is_subscription, &dropped, &count) => ended,
    }
}

async fn forward_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_subscription: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let piece = match from.read(&mut bytes).await? {
            0 => return Ok(()),
            read => &bytes[..read],
        };
        is_subscription.fetch_or(has(piece, b"SUBSCRIBE"), Ordering::Relaxed);
        to.write_all(piece).await?;
    }
}

async fn forward_replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_subscription: &AtomicBool,
    dropped: &watch::Receiver<Dropped>,
    count: &AtomicUsize,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut is_silent = false;
    loop {
        let piece = match from.read(&mut bytes).await? {
            0 => return Ok(()),
            read => &bytes[..read],
        };
        let dropped = *dropped.borrow();
        is_silent |= match dropped {
            Dropped::Nothing | Dropped::Invalidations => false,
            Dropped::Subscriptions => is_subscription.load(Ordering::Relaxed),
            Dropped::Everything => true,
        };
        if is_silent || (dropped == Dropped::Invalidations && has(piece, INVALIDATION)) {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            to.write_all(piece).await?;
        }
    }
}

fn has(piece: &[u8], words: &[u8]) -> bool {
    piece.windows(words.len()).any(|window| window == words)
}
