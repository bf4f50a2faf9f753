//! The head of a request, written; the head of an answer, read: RFC 9112, 2 to 6.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use service::http1::{About, Coding, Framing, MAX_HEADERS, Malformed, Names, range};
use service::listen::BUFFER_BYTES;

use super::Incoming;
use crate::headers;
use crate::pool::Outbound;

/// Enough for what most requests have, in bytes.
const REQUEST_BYTES: usize = 1024;

/// Writes the head of a request.
pub(super) fn write(to: &mut BytesMut, request: Outbound<'_>, host: &HeaderValue, coding: Coding) {
    to.reserve(REQUEST_BYTES);
    let path = request.uri.path_and_query();
    to.put_slice(request.method.as_str().as_bytes());
    to.put_slice(b" ");
    to.put_slice(path.map_or("/", PathAndQuery::as_str).as_bytes());
    to.put_slice(b" HTTP/1.1\r\nhost: ");
    to.put_slice(host.as_bytes());
    to.put_slice(b"\r\n");
    request.headers.for_each(|name, value| {
        to.put_slice(name.as_str().as_bytes());
        to.put_slice(b": ");
        to.put_slice(value.as_bytes());
        to.put_slice(b"\r\n");
    });
    match coding {
        // A request that ended with its connection would have no answer.
        Coding::Nothing | Coding::UntilClosed => {}
        Coding::Length(length) => {
            to.put_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Coding::Chunks => to.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    to.put_slice(b"\r\n");
}

/// The head of an answer, without what is about the connection it came on.
#[derive(Debug)]
pub(super) struct Head {
    status: StatusCode,
    reason: Option<ReasonPhrase>,
    headers: HeaderMap,
    pub(super) framing: Framing,
    /// The connection can be used again after this answer.
    pub(super) is_kept: bool,
}

/// Takes the head of the answer to a request of this method from what was read; `None`: there is
/// more to read first.
pub(super) fn parse(
    read: &mut BytesMut,
    method: &Method,
    names: &mut Names,
) -> Result<Option<Head>, Malformed> {
    loop {
        let mut found = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut []);
        let config = ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut answer, read, &mut found)?;
        let Status::Complete(length) = parsed else {
            return match read.len() {
                BUFFER_BYTES.. => Err(Malformed::LongHead),
                _ => Ok(None),
            };
        };
        // Both are there in a complete head, and a status has three digits.
        let status = StatusCode::from_u16(answer.code.unwrap_or_default());
        let status = status.map_err(|_| httparse::Error::Status)?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed::Upgrade);
        }
        if status.is_informational() {
            drop(read.split_to(length));
            continue;
        }
        let mut about = About::default();
        let mut kept = Vec::with_capacity(answer.headers.len());
        for (place, header) in answer.headers.iter().enumerate() {
            let (name, role) = names.at(place, header.name)?;
            if about.note(role, header.value)? && !headers::is_hop_by_hop(&name) {
                kept.push((name, range(read, header.value)));
            }
        }
        let reason = answer
            .reason
            .filter(|it| Some(*it) != status.canonical_reason());
        let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
        let is_kept = answer.version == Some(1) && !about.is_closed;
        let framing = framing(&about, status, method)?;
        let bytes = read.split_to(length).freeze();
        return Ok(Some(Head {
            status,
            reason,
            headers: headers(&about, kept, &bytes)?,
            framing,
            is_kept: is_kept && framing != Framing::UntilClosed,
        }));
    }
}

impl Head {
    pub(super) fn is_refusal(&self) -> bool {
        self.status.is_client_error() || self.status.is_server_error()
    }

    pub(super) fn into_response(self, body: Incoming) -> Response<Incoming> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

/// RFC 9112, 6.3.
fn framing(about: &About, status: StatusCode, method: &Method) -> Result<Framing, Malformed> {
    let said = about.framing()?;
    let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none || *method == Method::HEAD {
        return Ok(Framing::NOTHING);
    }
    Ok(said.unwrap_or(Framing::UntilClosed))
}

fn headers(
    about: &About,
    kept: Vec<(HeaderName, Range<usize>)>,
    bytes: &Bytes,
) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(kept.len());
    for (name, range) in kept {
        if !about.private.contains(&name) {
            let value = HeaderValue::from_maybe_shared(bytes.slice(range));
            headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
        }
    }
    Ok(headers)
}
