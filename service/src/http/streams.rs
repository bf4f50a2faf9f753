//! Runs the requests of HTTP/2, each in a task of its own, and ends those whose answer nobody reads.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task_local;
use tokio::time::{Instant, Sleep, sleep_until};

task_local! {
    /// When the request that a task is about was answered.
    static ANSWERED: OnceCell<Instant>;
}

/// Notes that the request of this task was answered. With HTTP/1.1 there is no such task.
pub(super) fn note_answer() {
    let _ = ANSWERED.try_with(|answered| answered.set(Instant::now()));
}

/// An executor for hyper, which would wait for ever while a caller reads nothing.
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
    use std::convert::Infallible;
    use std::net::{Ipv4Addr, SocketAddr};
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
    use crate::http::MAX_STREAMS;
    use crate::listen::{ANSWER_TIMEOUT, BUFFER_BYTES, Handler, bind, serve};
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
