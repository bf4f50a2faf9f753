//! The head of an answer, written.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, Response, StatusCode, Version};
use bytes::{BufMut, BytesMut};
use hyper::ext::ReasonPhrase;

use super::{Coding, Malformed, Message};

/// Enough for what most answers have, in bytes.
const HEAD_BYTES: usize = 1024;

/// Whom it is for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    /// Another request may follow.
    pub(super) is_kept: bool,
}

/// The answer as it is sent. Where only the end of the connection can end it, no request may follow.
pub(super) fn message(response: Response<Body>, asked: &mut Asked) -> Message<Body> {
    let (parts, body) = response.into_parts();
    let has_none = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let body = (!has_none && asked.method != Method::HEAD).then_some(body);
    let said = parts.headers.get(CONTENT_LENGTH);
    let coding = match &body {
        None => Coding::Nothing,
        Some(body) => coding(said, body, asked.version),
    };
    asked.is_kept &= coding != Coding::UntilClosed;

    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(parts.status.as_str().as_bytes());
    head.put_slice(b" ");
    match parts.extensions.get::<ReasonPhrase>() {
        Some(reason) => head.put_slice(reason.as_bytes()),
        None => {
            let reason = parts.status.canonical_reason().unwrap_or_default();
            head.put_slice(reason.as_bytes());
        }
    }
    head.put_slice(b"\r\n");
    let mut has_date = false;
    for (name, value) in &parts.headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || *name == CONNECTION {
            continue;
        }
        has_date |= *name == DATE;
        put(&mut head, name.as_str().as_bytes(), value.as_bytes());
    }
    if !has_date {
        put_date(&mut head);
    }
    match (coding, said) {
        (Coding::Nothing, Some(length)) if parts.status != StatusCode::NO_CONTENT => {
            put(&mut head, b"content-length", length.as_bytes());
        }
        (Coding::Nothing | Coding::UntilClosed, _) => {}
        (Coding::Length(length), _) => {
            put(&mut head, b"content-length", length.to_string().as_bytes());
        }
        (Coding::Chunks, _) => put(&mut head, b"transfer-encoding", b"chunked"),
    }
    if !asked.is_kept {
        put(&mut head, b"connection", b"close");
    } else if asked.version == Version::HTTP_10 {
        put(&mut head, b"connection", b"keep-alive");
    }
    head.put_slice(b"\r\n");
    Message::new(head, coding, Bytes::new(), body)
}

/// What to answer to what is no request.
pub(super) fn refusal(malformed: &Malformed) -> Response<Body> {
    let message = format!("That is no request in HTTP/1.1: {malformed}");
    error(malformed.status(), &message)
}

/// Instead of an answer of which nothing came but its head.
pub(super) fn broken() -> Response<Body> {
    error(
        StatusCode::BAD_GATEWAY,
        "The answer broke off before its first byte",
    )
}

/// In the shape of GHL's errors, as everything else that is refused.
fn error(status: StatusCode, message: &str) -> Response<Body> {
    let body = format!(
        r#"{{"statusCode":{},"message":"{message}","error":"{}"}}"#,
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn coding(said: Option<&HeaderValue>, body: &Body, version: Version) -> Coding {
    let said = said.and_then(|it| it.to_str().ok()?.parse().ok());
    match said.or(body.size_hint().exact()) {
        Some(length) => Coding::Length(length),
        None if version == Version::HTTP_10 => Coding::UntilClosed,
        None => Coding::Chunks,
    }
}

fn put(head: &mut BytesMut, name: &[u8], value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    head.put_slice(name);
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

/// Written out once a second.
fn put_date(head: &mut BytesMut) {
    thread_local! {
        static NOW: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "of one answer, and nothing is decided by it"
    )]
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    NOW.with_borrow_mut(|(written, date)| {
        if *written != seconds || date.is_empty() {
            (*written, *date) = (seconds, httpdate::fmt_http_date(now));
        }
        put(head, DATE.as_str().as_bytes(), date.as_bytes());
    });
}
