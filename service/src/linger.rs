//! What is left of a request that is answered before its end.
//!
//! A connection that is closed with bytes of its caller unread is reset, and a reset takes the
//! answer with it where the caller has not read that yet: who uploads a file with a wrong key
//! would see a broken connection, and not the 401. So what nobody wants is read all the same, for
//! a while, and thrown away.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, header};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// As long as an answer may take to reach a caller that goes on sending.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request whose body is read to its end even if its handler does not.
pub fn until_its_end(request: Request<Incoming>) -> Request<Body> {
    if request.body().is_end_stream() {
        return request.map(|_| Body::empty());
    }
    // Who waits for a 100 before sending is still waiting when the answer comes, and then sends
    // nothing.
    let is_coming = !request.headers().contains_key(header::EXPECT);
    request.map(|body| {
        Body::new(Lingering {
            body: Some(body),
            is_coming,
        })
    })
}

struct Lingering {
    /// `None` once it is over.
    body: Option<Incoming>,
    is_coming: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        this.is_coming = true;
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else {
            return;
        };
        if !self.is_coming || body.is_end_stream() {
            return;
        }
        let rest = async move {
            while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        };
        // Where the runtime is gone, so is the connection.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(PATIENCE, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::put;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::listen::{bind, serve};
    use crate::shutdown::Shutdown;

    const SIZE: usize = 16 * 1024 * 1024;

    /// A server that refuses all bodies unread.
    async fn unwilling(shutdown: &Shutdown) -> SocketAddr {
        let router = Router::new().route("/", put(async || (StatusCode::UNAUTHORIZED, "no")));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        shutdown.spawn(serve(listener, router, shutdown.clone()));
        address
    }

    async fn send(address: SocketAddr, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\
             {headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn who_sends_all_before_reading_gets_the_answer() {
        let shutdown = Shutdown::new();
        let address = unwilling(&shutdown).await;
        for _ in 0..5 {
            let stream = send(address, "", &vec![7; SIZE]).await;
            let answer = answer(stream).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            assert!(answer.ends_with("no"), "{answer}");
        }
    }

    #[tokio::test]
    async fn who_asks_first_is_neither_told_to_send_nor_waited_for() {
        let shutdown = Shutdown::new();
        let address = unwilling(&shutdown).await;
        let stream = send(address, "Expect: 100-continue\r\n", b"").await;
        let answer = timeout(PATIENCE / 2, answer(stream)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}
