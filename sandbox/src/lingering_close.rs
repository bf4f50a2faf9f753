//! Lingering close: reads the rest of a request body after an early response.
//!
//! Closing a connection with unread bytes resets it. The reset discards a response that the client has not
//! read yet: a client that uploads a file with a wrong token would see a broken connection instead of the
//! 401. So the rest of the body is read and discarded for a while.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, header};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long the rest of a body is read: enough for the response to reach a client that is still sending.
const PATIENCE: Duration = Duration::from_secs(5);

/// The request with a body that is read to its end, even if its handler does not read it.
pub(crate) fn drain_body(request: Request<Incoming>) -> Request<Body> {
    if request.body().is_end_stream() {
        return request.map(|_| Body::empty());
    }
    // A client that waits for `100 Continue` sends no body after a final response.
    let is_coming = !request.headers().contains_key(header::EXPECT);
    request.map(|body| {
        Body::new(Lingering {
            body: Some(body),
            is_coming,
        })
    })
}

struct Lingering {
    /// `None` once the body has ended.
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
        // Without a runtime, the connection is gone, too.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(PATIENCE, rest));
        }
    }
}
