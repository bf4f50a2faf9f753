//! The connections of one worker to one other side: those of HTTP/1.1 that are idle, the last used
//! first, or the one of HTTP/2 that all calls share.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::listen::BUFFER_BYTES;
use tokio::time::{Instant, interval};
use tower::ServiceExt;
use tracing::debug;

use crate::body::Outgoing;
use crate::connector::Connector;

/// Shorter than what common servers and balancers allow an idle connection, so that it is almost
/// always we who close it, and no request is sent into a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection of HTTP/2 with calls on it may be silent before it is asked whether it is
/// there, and how long it has to say so.
const SILENCE: Duration = Duration::from_secs(10);

/// Whom a pool connects to.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    origin: Origin,
    host: HeaderValue,
    /// The one that was used last is the last.
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<http2::SendRequest<Outgoing>>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Outgoing>,
    since: Instant,
}

/// Whichever kind the other side speaks.
enum Connection {
    Own(http1::SendRequest<Outgoing>),
    Shared(http2::SendRequest<Outgoing>),
}

/// A connection whose answer is being read. Dropped before that is over, it is closed.
#[derive(Debug)]
pub(crate) struct Busy {
    pool: Arc<Pool>,
    sender: http1::SendRequest<Outgoing>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no connection")]
    NotConnected(#[source] Box<dyn StdError + Send + Sync>),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

type Answered = (Response<Incoming>, Option<Busy>);
type Unanswered = TrySendError<Request<Outgoing>>;

impl Pool {
    /// An empty one. Needs the runtime that its connections shall live on.
    pub(crate) fn new(connector: Connector, origin: Origin) -> Arc<Self> {
        let host = HeaderValue::from_str(origin.authority.as_str());
        let pool = Arc::new(Self {
            connector,
            host: host.unwrap_or_else(|_| HeaderValue::from_static("")),
            origin,
            idle: Mutex::default(),
            shared: Mutex::default(),
        });
        let swept = Arc::downgrade(&pool);
        tokio::spawn(async move {
            let mut turns = interval(IDLE_TIMEOUT / 4);
            loop {
                turns.tick().await;
                let Some(pool) = swept.upgrade() else { return };
                pool.sweep();
            }
        });
        pool
    }

    /// Sends the request, whose URI has a path and a query alone, and waits for the answer's head.
    ///
    /// The body of the answer is to be read with what comes beside it at hand: see [`Busy::release`].
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Outgoing>,
    ) -> Result<Answered, NoAnswer> {
        while let Some(connection) = self.take() {
            match self.send_over(connection, request).await {
                Ok(answered) => return Ok(answered),
                // It closed at this moment, and nothing of the request was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::Broken(error.into_error())),
                },
            }
        }
        let connection = self.connect().await.map_err(NoAnswer::NotConnected)?;
        let answered = self.send_over(connection, request).await;
        answered.map_err(|error| NoAnswer::Broken(error.into_error()))
    }

    async fn send_over(
        self: &Arc<Self>,
        connection: Connection,
        mut request: Request<Outgoing>,
    ) -> Result<Answered, Unanswered> {
        match connection {
            Connection::Own(mut sender) => {
                request
                    .headers_mut()
                    .insert(header::HOST, self.host.clone());
                let response = sender.try_send_request(request).await?;
                let pool = Arc::clone(self);
                Ok((response, Some(Busy { pool, sender })))
            }
            Connection::Shared(mut sender) => {
                request.headers_mut().remove(header::HOST);
                self.origin.complete(request.uri_mut());
                Ok((sender.try_send_request(request).await?, None))
            }
        }
    }

    /// A connection that can take a request at once.
    fn take(&self) -> Option<Connection> {
        {
            let mut idle = locked(&self.idle);
            // One that is not ready yet has given its answer this very moment, or has been closed.
            if let Some(last) = idle.iter().rposition(|idle| idle.sender.is_ready()) {
                let Idle { sender, since } = idle.remove(last);
                if since.elapsed() < IDLE_TIMEOUT {
                    return Some(Connection::Own(sender));
                }
                // Those before it have waited even longer.
                idle.drain(..last);
            }
        }
        let shared = locked(&self.shared);
        let open = shared.as_ref().filter(|sender| !sender.is_closed());
        open.cloned().map(Connection::Shared)
    }

    async fn connect(&self) -> Result<Connection, Box<dyn StdError + Send + Sync>> {
        let mut to = Uri::default();
        self.origin.complete(&mut to);
        let stream = self.connector.clone().oneshot(to).await?;
        if stream.connected().is_negotiated_h2() {
            let handshake = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(SILENCE)
                .keep_alive_timeout(SILENCE)
                .handshake(stream);
            let (sender, connection) = handshake.await?;
            drive(connection);
            *locked(&self.shared) = Some(sender.clone());
            return Ok(Connection::Shared(sender));
        }
        let handshake = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(stream);
        let (sender, connection) = handshake.await?;
        drive(connection);
        Ok(Connection::Own(sender))
    }

    /// Closes what has been idle for long, and forgets what the other side has closed.
    fn sweep(&self) {
        locked(&self.idle)
            .retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIMEOUT);
    }
}

impl Busy {
    /// The answer has been read to its end: the connection can take the next request.
    pub(crate) fn release(self) {
        if self.sender.is_closed() {
            return;
        }
        let idle = Idle {
            sender: self.sender,
            since: Instant::now(),
        };
        locked(&self.pool.idle).push(idle);
    }
}

impl Origin {
    /// Puts it before a path.
    fn complete(&self, uri: &mut Uri) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // Cannot be refused: a scheme, an authority and a path are all there.
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(reason) = connection.await {
            debug!(%reason, "a connection ended early");
        }
    });
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that hands over each connection it gets, and a pool of connections to it.
    async fn start() -> (Arc<Pool>, mpsc::UnboundedReceiver<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin {
            scheme: Scheme::HTTP,
            authority: listener.local_addr().unwrap().to_string().parse().unwrap(),
        };
        let (hand_over, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                hand_over.send(stream).unwrap();
            }
        });
        (Pool::new(Connector::new(None, SOON), origin), connections)
    }

    fn get() -> Request<Outgoing> {
        let mut request = Request::new(Outgoing::empty());
        *request.uri_mut() = Uri::from_static("/x");
        request
    }

    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// The other side's part in one call.
    async fn answer(stream: &mut TcpStream) -> String {
        let head = timeout(SOON, read_head(stream)).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        head
    }

    /// A call whose answer is read to its end.
    async fn call(pool: &Arc<Pool>) {
        let sent = timeout(SOON, pool.send(get())).await.unwrap();
        let (response, busy) = sent.unwrap();
        assert_eq!(response.collect().await.unwrap().to_bytes(), "ok");
        busy.unwrap().release();
    }

    async fn next(connections: &mut mpsc::UnboundedReceiver<TcpStream>) -> TcpStream {
        let next = timeout(SOON, connections.recv()).await;
        next.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_names_its_host() {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut stream = next(&mut connections).await;
            let mut heads = Vec::new();
            for _ in 0..3 {
                heads.push(answer(&mut stream).await);
            }
            (stream, heads)
        };
        let calls = async {
            for _ in 0..3 {
                call(&pool).await;
            }
        };
        let ((_stream, heads), ()) = tokio::join!(serve, calls);
        assert!(connections.try_recv().is_err());
        for head in heads {
            assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
            let host = format!("host: {}\r\n", pool.origin.authority);
            assert!(head.contains(&host), "{head}");
        }
    }

    #[tokio::test]
    async fn calls_at_once_have_a_connection_each() {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut first = next(&mut connections).await;
            let mut second = next(&mut connections).await;
            answer(&mut second).await;
            answer(&mut first).await;
            (first, second)
        };
        let (_streams, (), ()) = tokio::join!(serve, call(&pool), call(&pool));
        assert_eq!(locked(&pool.idle).len(), 2);
    }

    #[tokio::test]
    async fn one_that_was_closed_is_not_used_again() {
        let (pool, mut connections) = start().await;
        for _ in 0..3 {
            let serve = async {
                let mut stream = next(&mut connections).await;
                answer(&mut stream).await;
            };
            tokio::join!(serve, call(&pool));
            let is_closed = async {
                while !locked(&pool.idle).iter().all(|it| it.sender.is_closed()) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(SOON, is_closed).await.unwrap();
        }
        pool.sweep();
        assert!(locked(&pool.idle).is_empty());
    }

    #[tokio::test]
    async fn one_whose_answer_nobody_reads_to_its_end_is_closed() {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut stream = next(&mut connections).await;
            read_head(&mut stream).await;
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
            stream.write_all(half).await.unwrap();
            stream
        };
        let (mut stream, answered) = tokio::join!(serve, pool.send(get()));
        drop(answered.unwrap());
        let end = timeout(SOON, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert!(locked(&pool.idle).is_empty());
    }
}
