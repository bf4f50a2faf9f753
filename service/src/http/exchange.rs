//! Handles a request and its response, and reports both to their connection.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::activity::Activity;
use super::{check, streams};
use crate::handler::{Endless, Handler};
use crate::tls::Access;

/// If an unread body is not longer than this, the connection stays open. In bytes.
const SHORT_BYTES: u64 = 64 * 1024;

/// Answers a request.
pub(super) async fn answer(
    request: Request<Incoming>,
    handler: &impl Handler,
    peer: IpAddr,
    access: Access,
    activity: Arc<Activity>,
) -> Response<ResponseBody> {
    let version = request.version();
    let has_body = !request.body().is_end_stream();
    // hyper reads the rest of a short body before the next request.
    let is_long = request
        .body()
        .size_hint()
        .exact()
        .is_none_or(|length| length > SHORT_BYTES);
    activity.request(version, has_body, is_long);
    let in_flight = InFlight { activity, version };
    let mut response = match check::fault(&request, access) {
        Some(fault) => fault.into_response(request.uri().path()),
        None => {
            let is_sent_anyway = !request.headers().contains_key(header::EXPECT);
            let request = request.map(|body| match has_body {
                true => in_flight.upload(body, is_sent_anyway),
                false => Body::new(body),
            });
            handler.handle(request, peer).await
        }
    };
    let timeout = match response.extensions().get() {
        Some(Endless) => None,
        None => {
            streams::note_answer();
            Some(handler.answer_timeout())
        }
    };
    let is_uploading = in_flight.activity.answer(timeout);
    // With HTTP/1.0 the end of the connection ends a response of unknown length.
    let is_endless = version == Version::HTTP_10 && response.body().size_hint().exact().is_none();
    if is_endless {
        // Otherwise hyper adds `keep-alive`.
        *response.version_mut() = Version::HTTP_10;
    }
    // Its caller stopped sending, so the rest of the body will not come.
    let is_stalled = response.status() == StatusCode::REQUEST_TIMEOUT;
    if is_endless || is_uploading || is_stalled {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response.map(|body| ResponseBody { body, in_flight })
}

/// Marks a request as in flight until it is dropped.
#[derive(Debug)]
struct InFlight {
    activity: Arc<Activity>,
    version: Version,
}

impl InFlight {
    fn upload(&self, body: Incoming, is_sent_anyway: bool) -> Body {
        // An HTTP/2 stream ends independently of its connection.
        if self.version == Version::HTTP_2 {
            return Body::new(body);
        }
        Body::new(Upload {
            body: Some(body),
            is_sent_anyway,
            activity: Arc::clone(&self.activity),
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.answered();
    }
}

/// The body of an HTTP/1.1 request. It reports when it was read to its end.
struct Upload {
    /// `None` once this is dropped.
    body: Option<Incoming>,
    /// The caller sends the body without waiting for `100 Continue`.
    is_sent_anyway: bool,
    activity: Arc<Activity>,
}

impl Drop for Upload {
    /// Reads the rest while the response is sent. Some callers read only after they have sent everything.
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(mut rest), true, Ok(runtime)) =
            (rest, self.is_sent_anyway, Handle::try_current())
        {
            let activity = Arc::clone(&self.activity);
            runtime.spawn(async move {
                while let Some(Ok(_)) = rest.frame().await {}
                activity.uploaded();
            });
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if body.is_end_stream() || frame.is_none() {
            self.activity.uploaded();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(HttpBody::size_hint);
        hint.unwrap_or_default()
    }
}

/// The body of a response. Its request is in flight until this is dropped.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    in_flight: InFlight,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if matches!(frame, Some(Err(_))) && self.in_flight.version == Version::HTTP_10 {
            self.in_flight.activity.mark_broken();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
