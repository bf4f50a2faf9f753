//! The head of a request, read.

use std::mem::MaybeUninit;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use bytes::BytesMut;
use httparse::{Header, ParserConfig, Status};

use super::{About, Framing, MAX_HEADERS, Malformed, Names, Role, range};
use crate::listen::BUFFER_BYTES;

/// Room for what handlers add: an id.
const SPARE_HEADERS: usize = 2;

/// A request, all but its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request<()>,
    pub(super) framing: Framing,
    /// The caller sends the body only once it is told to, or has waited in vain.
    pub(super) expects_continue: bool,
    /// Another request may follow.
    pub(super) is_kept: bool,
}

impl Head {
    /// Takes one from what was read; `None`: there is more to read first.
    pub(super) fn take(read: &mut BytesMut, names: &mut Names) -> Result<Option<Self>, Malformed> {
        let mut found = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        let config = ParserConfig::default();
        let status = config.parse_request_with_uninit_headers(&mut parsed, read, &mut found)?;
        let Status::Complete(length) = status else {
            return match read.len() {
                BUFFER_BYTES.. => Err(Malformed::LongHead),
                _ => Ok(None),
            };
        };
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(httparse::Error::Token.into());
        };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| httparse::Error::Token)?;
        let target = range(read, target.as_bytes());
        let is_newest = parsed.version == Some(1);
        let mut about = About::default();
        let mut kept = Vec::with_capacity(parsed.headers.len());
        for (place, header) in parsed.headers.iter().enumerate() {
            let (name, role) = names.at(place, header.name)?;
            if role == Role::Host && !is_host(header.value) {
                return Err(Malformed::Host);
            }
            if about.note(role, header.value)? {
                kept.push((name, range(read, header.value)));
            }
        }
        let framing = about.framing()?.unwrap_or(Framing::NOTHING);
        let is_kept = if is_newest {
            !about.is_closed
        } else {
            about.is_kept && !about.is_closed
        };
        // RFC 9112, 3.2. Who is before us may take another of them than who is behind us.
        if about.hosts > 1 || is_newest && about.hosts == 0 {
            return Err(Malformed::Host);
        }
        // RFC 9112, 6.1: nobody knows what such a request is.
        if !is_newest && matches!(framing, Framing::Chunks(_)) {
            return Err(Malformed::Unending);
        }
        let bytes = read.split_to(length).freeze();
        let mut headers = HeaderMap::with_capacity(kept.len() + SPARE_HEADERS);
        for (name, range) in kept {
            let value = HeaderValue::from_maybe_shared(bytes.slice(range));
            headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri(bytes.slice(target), request.method())?;
        *request.version_mut() = if is_newest {
            Version::HTTP_11
        } else {
            Version::HTTP_10
        };
        *request.headers_mut() = headers;
        Ok(Some(Self {
            request,
            framing,
            expects_continue: about.expects_continue && is_newest,
            is_kept,
        }))
    }
}

/// Whether it is made of what hosts and ports are made of; to have none is to name none: RFC 9110, 7.2.
fn is_host(value: &[u8]) -> bool {
    let is_possible =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte);
    value.iter().all(is_possible)
}

/// In the form that its method asks for: RFC 9112, 3.2.
fn uri(target: Bytes, method: &Method) -> Result<Uri, Malformed> {
    let uri = Uri::from_maybe_shared(target).map_err(|_| Malformed::Target)?;
    let is_fitting = match *method {
        Method::CONNECT => uri.authority().is_some(),
        Method::OPTIONS if uri.path() == "*" => true,
        _ => uri.path().starts_with('/'),
    };
    is_fitting.then_some(uri).ok_or(Malformed::Target)
}
