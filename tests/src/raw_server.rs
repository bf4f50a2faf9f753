//! A server that answers byte for byte as a test has it, and shows byte for byte what it was sent:
//! GHL's end of the server, where what no well-behaved server does is the point.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::wait::{holds, until};

/// What the server does on a connection, once the head of a request is there.
#[derive(Debug, Clone, Copy)]
pub enum ServerAction {
    Send(&'static [u8]),
    Pause(Duration),
    /// Waits until the other side closes the connection.
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
    ended: usize,
}

impl RawServer {
    /// Does this on every connection, and closes it.
    ///
    /// # Panics
    /// When it cannot listen.
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

    /// Answers this to every request.
    pub async fn answering(bytes: &'static str) -> Self {
        Self::performing(&[ServerAction::Send(bytes.as_bytes())]).await
    }

    /// All that was sent so far, by connection.
    ///
    /// # Panics
    /// Never in a test that has not panicked before.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").requests.clone()
    }

    /// Waits until the other side has closed so many connections that [`ServerAction::AwaitClose`] waits on.
    pub async fn wait_for_closed_connections(&self, count: usize) {
        until("connections to end", Duration::from_secs(10), || async {
            let ended = self.seen.lock().expect("not poisoned").ended;
            holds(ended >= count, ended)
        })
        .await;
    }
}

async fn serve(mut stream: TcpStream, actions: Vec<ServerAction>, seen: Arc<Mutex<Seen>>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            // A connection that was made ahead of its request.
            Ok(0) | Err(_) => return,
        }
    }
    // What follows the head at once is shown too.
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
                seen.lock().expect("not poisoned").ended += 1;
            }
        }
    }
}
