//! Runs each HTTP/2 request in its own task, and resets streams whose response is not read in time.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task_local;
use tokio::time::{Instant, Sleep, sleep_until};

task_local! {
    /// When the request of a task was answered.
    static ANSWERED: OnceCell<Instant>;
}

/// Notes that the request of this task was answered. With HTTP/1.1 there is no such task.
pub(super) fn note_answer() {
    let _ = ANSWERED.try_with(|answered| answered.set(Instant::now()));
}

/// An executor for hyper. hyper itself would wait without limit for a caller that does not read.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) answer_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, exchange: F) {
        let sent_in_time = sent_in_time(exchange, self.answer_timeout);
        tokio::spawn(ANSWERED.scope(OnceCell::new(), sent_in_time));
    }
}

/// Runs until h2 has the whole response, or until the timeout. h2 holds the last [`BUFFER_BYTES`] of a response as
/// long as the connection lives. At the timeout the exchange is dropped, which resets its stream.
async fn sent_in_time(exchange: impl Future<Output = ()>, patience: Duration) {
    let mut exchange = pin!(exchange);
    // Set only for a response that is not sent at once.
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
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use axum::body::{Body, to_bytes};
    use axum::http::{Request, Response, StatusCode};
    use futures_util::{StreamExt, stream};
    use hyper::client::conn::http2::{Builder, SendRequest};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::connection_limits::ConnectionLimits;
    use crate::handler::{Endless, Handler};
    use crate::http::MAX_STREAMS;
    use crate::limits::{ANSWER_TIMEOUT, BUFFER_BYTES};
    use crate::listen::{bind, serve};
    use crate::shutdown::Shutdown;

    const SOON: Duration = Duration::from_secs(10);

    /// Notifies when it is dropped.
    struct DropSignal(Arc<Notify>);

    impl Drop for DropSignal {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    #[derive(Clone, Default)]
    struct PathHandler {
        dropped: Arc<Notify>,
    }

    impl Handler for PathHandler {
        async fn handle(&self, request: Request<Body>, _: IpAddr) -> Response<Body> {
            match request.uri().path() {
                path @ ("/endless" | "/events") => {
                    let signal = DropSignal(Arc::clone(&self.dropped));
                    let endless = stream::repeat_with(move || {
                        let _ = &signal;
                        Ok::<_, Infallible>("x".repeat(1024))
                    });
                    let mut response = Response::new(Body::from_stream(endless));
                    if path == "/events" {
                        response.extensions_mut().insert(Endless);
                    }
                    response
                }
                "/unread" => std::future::pending().await,
                _ => Response::new(request.into_body()),
            }
        }
    }

    async fn connect(handler: PathHandler, shutdown: &Shutdown) -> SendRequest<Body> {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        shutdown.spawn(serve(
            listener,
            handler,
            ConnectionLimits::none(),
            shutdown.clone(),
        ));
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
    async fn unread_stream_is_reset_at_the_response_timeout() {
        let handler = PathHandler::default();
        let shutdown = Shutdown::new();
        let mut requests = connect(handler.clone(), &shutdown).await;
        let answered = requests
            .send_request(request("/endless", ""))
            .await
            .unwrap();
        let answered_at = Instant::now();
        let dropped = timeout(ANSWER_TIMEOUT * 2, handler.dropped.notified()).await;
        assert!(dropped.is_ok());
        assert!(answered_at.elapsed() >= ANSWER_TIMEOUT);
        let body = Body::new(answered.into_body());
        let is_reset = body.into_data_stream().any(async |piece| piece.is_err());
        assert!(timeout(SOON, is_reset).await.unwrap());
        // Other streams of the connection are still served.
        let other = requests.send_request(request("/", "other")).await.unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_response_has_no_timeout_and_ends_with_its_reader() {
        let handler = PathHandler::default();
        let shutdown = Shutdown::new();
        let mut requests = connect(handler.clone(), &shutdown).await;
        let answered = requests.send_request(request("/events", "")).await;
        let dropped = timeout(ANSWER_TIMEOUT * 2, handler.dropped.notified()).await;
        assert!(dropped.is_err());
        drop(answered);
        let dropped = timeout(SOON, handler.dropped.notified()).await;
        assert!(dropped.is_ok());
    }

    #[tokio::test]
    async fn unread_request_bodies_do_not_block_other_streams() {
        let shutdown = Shutdown::new();
        let mut requests = connect(PathHandler::default(), &shutdown).await;
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
