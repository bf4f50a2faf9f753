//! The head of a request, written; the head of an answer, read: RFC 9112, 2 to 6.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use service::listen::BUFFER_BYTES;

use super::framing::{Chunks, Framing};
use super::{Coding, Incoming, Malformed};
use crate::headers;
use crate::pool::Outbound;

/// As many headers as an answer may have.
pub(super) const MAX_HEADERS: usize = 100;

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
        Coding::Nothing => {}
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
            let name = names.at(place, header.name)?;
            if about.note(&name, header.value)? {
                kept.push((name, range(read, header.value)));
            }
        }
        let reason = answer
            .reason
            .filter(|it| Some(*it) != status.canonical_reason());
        let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
        let is_kept = answer.version == Some(1) && !about.is_closed;
        let framing = about.framing(status, method)?;
        let bytes = read.split_to(length).freeze();
        return Ok(Some(Head {
            status,
            reason,
            headers: about.headers(kept, &bytes)?,
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

/// The names in the head of the last answer, as they came. One server's answers have the same nearly
/// always, in the same places, and to see that is far less work than to make a name.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Box<str>, HeaderName)>);

impl Names {
    fn at(&mut self, place: usize, name: &str) -> Result<HeaderName, httparse::Error> {
        if let Some((came, made)) = self.0.get(place)
            && **came == *name
        {
            return Ok(made.clone());
        }
        let made = HeaderName::from_bytes(name.as_bytes());
        let made = made.map_err(|_| httparse::Error::HeaderName)?;
        self.0.truncate(place);
        self.0.push((name.into(), made.clone()));
        Ok(made)
    }
}

/// What an answer's head says about its body and its connection.
#[derive(Debug, Default)]
struct About {
    length: Option<u64>,
    is_chunked: bool,
    is_closed: bool,
    /// Headers that `Connection` names besides those that are never passed on.
    private: Vec<HeaderName>,
}

impl About {
    /// Whether the header is for the caller, too.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        if *name == CONTENT_LENGTH {
            let length = number(value).ok_or(Malformed::Length)?;
            return match self.length.replace(length) {
                None => Ok(true),
                Some(before) if before == length => Ok(false),
                Some(_) => Err(Malformed::Length),
            };
        }
        if *name == TRANSFER_ENCODING {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            self.is_chunked = true;
            return Ok(false);
        }
        if *name == CONNECTION {
            for named in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if named.eq_ignore_ascii_case(b"close") {
                    self.is_closed = true;
                } else if !named.eq_ignore_ascii_case(b"keep-alive") {
                    self.private.extend(HeaderName::from_bytes(named));
                }
            }
            return Ok(false);
        }
        Ok(!headers::is_hop_by_hop(name))
    }

    /// RFC 9112, 6.3. A length beside chunks may be an attempt to hide an answer in another, so it
    /// is refused, which that section allows.
    fn framing(&self, status: StatusCode, method: &Method) -> Result<Framing, Malformed> {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Malformed::LengthAndChunks),
            _ if has_none || *method == Method::HEAD => Ok(Framing::NOTHING),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunks(Chunks::Size)),
            (None, false) => Ok(Framing::UntilClosed),
        }
    }

    fn headers(
        &self,
        kept: Vec<(HeaderName, Range<usize>)>,
        bytes: &Bytes,
    ) -> Result<HeaderMap, Malformed> {
        let mut headers = HeaderMap::with_capacity(kept.len());
        for (name, range) in kept {
            if !self.private.contains(&name) {
                let value = HeaderValue::from_maybe_shared(bytes.slice(range));
                headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
            }
        }
        Ok(headers)
    }
}

/// Where in `whole` a part of it is.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
