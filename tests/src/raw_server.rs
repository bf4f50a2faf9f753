//! A server in place of GHL that responds byte for byte as a test specifies, and records requests byte for byte. It
//! can do what no well-behaved server does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::wait::{holds, until};

/// An action of the server on a connection, after the head of a request has arrived.
#[derive(Debug, Clone, Copy)]
pub enum ServerAction {
    Send(&'static [u8]),
    Pause(Duration),
    /// Waits until the client closes the connection.
    AwaitClose,
}

#[derive(Debug)]
pub struct RawServer {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<String>,
    closed: usize,
}

impl RawServer {
    /// Performs these actions on every connection, and closes it.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn performing(actions: &[ServerAction]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (actions, shared) = (actions.to_vec(), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, actions.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, seen }
    }

    /// Sends this response to every request.
    pub async fn responding(bytes: &'static str) -> Self {
        Self::performing(&[ServerAction::Send(bytes.as_bytes())]).await
    }

    /// The requests so far, one per connection.
    ///
    /// # Panics
    /// Never in a test that has not panicked before.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").requests.clone()
    }

    /// Waits until clients have closed this many connections during [`ServerAction::AwaitClose`].
    pub async fn wait_for_closed_connections(&self, count: usize) {
        until("connections to end", Duration::from_secs(10), || async {
            let closed = self.seen.lock().expect("not poisoned").closed;
            holds(closed >= count, closed)
        })
        .await;
    }
}

async fn serve(mut stream: TcpStream, actions: Vec<ServerAction>, seen: Arc<Mutex<Seen>>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            // A connection that was opened without a request.
            Ok(0) | Err(_) => return,
        }
    }
    // Include bytes that follow the head immediately.
    let more = stream.read_buf(&mut request);
    let _ = timeout(Duration::from_millis(50), more).await;
    let text = String::from_utf8_lossy(&request).into_owned();
    seen.lock().expect("not poisoned").requests.push(text);
    for action in actions {
        match action {
            ServerAction::Send(bytes) => {
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            ServerAction::Pause(length) => sleep(length).await,
            ServerAction::AwaitClose => {
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                seen.lock().expect("not poisoned").closed += 1;
            }
        }
    }
}
