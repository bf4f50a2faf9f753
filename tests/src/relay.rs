//! A wire between a program and Redis that loses what Redis says while both ends take it for whole.

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
/// How a message of a channel begins in either version of the protocol, after its length.
const ANNOUNCEMENT: &[u8] = b"$7\r\nmessage\r\n";

/// What does not arrive at the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    /// The announcements alone: heartbeats are answered.
    Announcements,
    /// All of a connection with a subscription, from then on and for good.
    Channels,
    /// All of every connection, from then on and for good.
    Everything,
}

/// Ends with its connections when dropped.
#[derive(Debug)]
pub struct Relay {
    pub url: String,
    lost: watch::Sender<Lost>,
    /// Pieces that did not arrive.
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Stands in front of the Redis at this port, and loses nothing.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn to(server: u16) -> Self {
        let port = port::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let (lost, losses) = watch::channel(Lost::Nothing);
        let count = Arc::default();
        let task = serve(listener.expect("a free port"), server, losses, &count);
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            lost,
            task: tokio::spawn(task),
            count,
        }
    }

    /// From now on this is lost. A connection that has lost all stays silent, as one does whose other end
    /// vanished behind a proxy.
    pub fn lose(&self, lost: Lost) {
        self.lost.send_replace(lost);
    }

    /// How often something was lost so far.
    #[must_use]
    pub fn losses(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(
    listener: TcpListener,
    server: u16,
    lost: watch::Receiver<Lost>,
    count: &Arc<AtomicUsize>,
) -> impl Future<Output = ()> + use<> {
    let count = count.clone();
    async move {
        let mut connections = JoinSet::new();
        while let Ok((caller, _)) = listener.accept().await {
            connections.spawn(pass(caller, server, lost.clone(), count.clone()));
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn pass(
    caller: TcpStream,
    server: u16,
    lost: watch::Receiver<Lost>,
    count: Arc<AtomicUsize>,
) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    let is_channel = AtomicBool::new(false);
    let (questions, to_caller) = caller.into_split();
    let (answers, to_server) = server.into_split();
    tokio::select! {
        ended = ask(questions, to_server, &is_channel) => ended,
        ended = answer(answers, to_caller, &is_channel, &lost, &count) => ended,
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_channel: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let piece = match from.read(&mut bytes).await? {
            0 => return Ok(()),
            read => &bytes[..read],
        };
        is_channel.fetch_or(has(piece, b"SUBSCRIBE"), Ordering::Relaxed);
        to.write_all(piece).await?;
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_channel: &AtomicBool,
    lost: &watch::Receiver<Lost>,
    count: &AtomicUsize,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut is_silent = false;
    loop {
        let piece = match from.read(&mut bytes).await? {
            0 => return Ok(()),
            read => &bytes[..read],
        };
        let lost = *lost.borrow();
        is_silent |= match lost {
            Lost::Nothing | Lost::Announcements => false,
            Lost::Channels => is_channel.load(Ordering::Relaxed),
            Lost::Everything => true,
        };
        if is_silent || (lost == Lost::Announcements && has(piece, ANNOUNCEMENT)) {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            to.write_all(piece).await?;
        }
    }
}

fn has(piece: &[u8], words: &[u8]) -> bool {
    piece.windows(words.len()).any(|window| window == words)
}
