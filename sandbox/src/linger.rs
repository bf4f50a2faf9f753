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
pub(crate) fn until_its_end(request: Request<Incoming>) -> Request<Body> {
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
