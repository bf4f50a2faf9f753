//! HTTP/2 with callers, as hyper speaks it, with bounds of its own.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task_local;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::listen::{BUFFER_BYTES, Handler, IDLE_TIMEOUT};

/// As many requests at once as a connection may have. More than the hundred below which RFC 9113,
/// 6.5.2, advises not to go.
const MAX_STREAMS: u32 = 200;

/// How long a head may be, as with HTTP/1.1, and how much of a body may come before it is read, in
/// bytes: so much for each round trip, 3 MB/s with 20 ms to a caller.
const BUFFER: u32 = BUFFER_BYTES as u32;

/// Room for all bodies that are read late, so that they stop no other of their connection.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * BUFFER;

/// Serves until the caller closes the connection, or `stop` comes; what is in flight is finished
/// first.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: impl Handler,
    stop: CancellationToken,
) {
    let exchanges = Exchanges {
        patience: handler.answer_timeout(),
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let response = handler.handle(request.map(Body::new)).await;
            let _ = ANSWERED.with(|answered| answered.set(Instant::now()));
            Ok::<_, Infallible>(response)
        }
    });
    let mut http2 = http2::Builder::new(exchanges);
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(BUFFER)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER_BYTES)
        .max_header_list_size(BUFFER);
    let mut connection = pin!(http2.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(reason) = served {
        debug!(%reason, "a connection ended early");
    }
}

task_local! {
    /// When the request that a task is about was answered.
    static ANSWERED: OnceCell<Instant>;
}

/// Runs each request, and the sending of its answer, in a task. hyper waits without an end for who does
/// not read, and what the answer keeps is kept.
#[derive(Clone)]
struct Exchanges {
    patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Exchanges {
    fn execute(&self, exchange: F) {
        let sent_in_time = sent_in_time(exchange, self.patience);
        tokio::spawn(ANSWERED.scope(OnceCell::new(), sent_in_time));
    }
}

/// Until the answer is with h2, which holds its last [`BUFFER_BYTES`] for as long as the connection
/// lives; or its time is over: then its stream is reset, since it is dropped.
async fn sent_in_time(exchange: impl Future<Output = ()>, patience: Duration) {
    let mut exchange = pin!(exchange);
    // There is one only for an answer that does not go at once.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        if exchange.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(answered) = ANSWERED.with(|answered| answered.get().copied()) else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(answered + patience)));
        timer.as_mut().poll(context)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use axum::body::to_bytes;
    use axum::http::{Response, StatusCode};
    use futures_util::{StreamExt, stream};
    use hyper::client::conn::http2::{Builder, SendRequest};
    use hyper_util::rt::TokioExecutor;
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::listen::{ANSWER_TIMEOUT, bind, serve};
    use crate::shutdown::Shutdown;

    const SOON: Duration = Duration::from_secs(10);

    /// Says when it is gone.
    struct Kept(Arc<Notify>);

    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    #[derive(Clone, Default)]
    struct Obedient {
        let_go: Arc<Notify>,
    }

    impl Handler for Obedient {
        async fn handle(&self, request: Request<Body>) -> Response<Body> {
            match request.uri().path() {
                "/endless" => {
                    let kept = Kept(Arc::clone(&self.let_go));
                    let endless = stream::repeat_with(move || {
                        let _ = &kept;
                        Ok::<_, Infallible>("x".repeat(1024))
                    });
                    Response::new(Body::from_stream(endless))
                }
                "/unread" => std::future::pending().await,
                _ => Response::new(request.into_body()),
            }
        }
    }

    async fn connect(handler: Obedient, shutdown: &Shutdown) -> SendRequest<Body> {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        shutdown.spawn(serve(listener, handler, shutdown.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        requests
    }

    fn request(path: &str, body: impl Into<Body>) -> Request<Body> {
        let uri = format!("http://here{path}");
        Request::post(uri).body(body.into()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_waited_for() {
        let handler = Obedient::default();
        let shutdown = Shutdown::new();
        let mut requests = connect(handler.clone(), &shutdown).await;
        let answered = requests
            .send_request(request("/endless", ""))
            .await
            .unwrap();
        let answered_at = Instant::now();
        let let_go = timeout(ANSWER_TIMEOUT * 2, handler.let_go.notified()).await;
        assert!(let_go.is_ok());
        assert!(answered_at.elapsed() >= ANSWER_TIMEOUT);
        let body = Body::new(answered.into_body());
        let torn = body.into_data_stream().any(async |piece| piece.is_err());
        assert!(timeout(SOON, torn).await.unwrap());
        // The others of its connection are served on.
        let other = requests.send_request(request("/", "other")).await.unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn bodies_that_nobody_reads_stop_no_others() {
        let shutdown = Shutdown::new();
        let mut requests = connect(Obedient::default(), &shutdown).await;
        for _ in 0..MAX_STREAMS - 1 {
            let large = vec![b'x'; 2 * BUFFER_BYTES];
            tokio::spawn(requests.send_request(request("/unread", large)));
        }
        let sent = "x".repeat(2 * BUFFER_BYTES);
        let echo = requests.send_request(request("/echo", sent.clone()));
        let echo = timeout(SOON, echo).await.unwrap().unwrap();
        let body = to_bytes(Body::new(echo.into_body()), usize::MAX);
        assert_eq!(timeout(SOON, body).await.unwrap().unwrap(), sent);
    }
}
