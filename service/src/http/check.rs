//! Rejects requests that a proxy must not forward, and requests that two servers could interpret differently
//! (request smuggling). hyper rejects requests that are not valid HTTP.

use axum::body::Body;
use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version};

use crate::error_body::{ErrorBody, Shape};
use crate::tls::Access;

/// The paths that need no client certificate where others do.
const HEALTH: [&str; 2] = ["/livez", "/readyz"];

/// A fault in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("TRACE and CONNECT are not served")]
    Method,
    #[error("The target must not contain a user name")]
    UserInfo,
    #[error("Exactly one valid Host header is required")]
    Host,
    #[error("The only supported transfer coding is chunked")]
    Coding,
    #[error("This listener needs a client certificate, except for /livez and /readyz")]
    Certificate,
}

/// The first fault of a request, on a connection with this access (RFC 9110, 9.3 and 7.2; RFC 9112, 3.2 and 6.1).
pub(super) fn fault<B>(request: &Request<B>, access: Access) -> Option<Fault> {
    let is_allowed = match access {
        Access::Everything => true,
        Access::Health => HEALTH.contains(&request.uri().path()),
    };
    if !is_allowed {
        return Some(Fault::Certificate);
    }
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Some(Fault::Method);
    }
    let authority = request.uri().authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Some(Fault::UserInfo);
    }
    if !has_valid_host(request) {
        return Some(Fault::Host);
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_understood = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    (!is_understood).then_some(Fault::Coding)
}

fn has_valid_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // HTTP/2 names it in the pseudo-header `:authority`, and HTTP/1.0 need not name it.
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => is_authority(host),
        (Some(_), Some(_)) => false,
    }
}

/// A host with or without a port, or nothing, which RFC 9112, 3.2, allows.
fn is_authority(host: &HeaderValue) -> bool {
    host.is_empty()
        || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
}

impl Fault {
    fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UserInfo | Self::Host => StatusCode::BAD_REQUEST,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Certificate => StatusCode::FORBIDDEN,
        }
    }

    /// A stable code for programs. `docs/errors.md` lists them.
    fn code(self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::UserInfo => "user_info_not_allowed",
            Self::Host => "host_invalid",
            Self::Coding => "transfer_coding_unsupported",
            Self::Certificate => "client_certificate_required",
        }
    }

    /// The response to a request for this path.
    pub(super) fn into_response(self, path: &str) -> Response<Body> {
        let body = ErrorBody::new(self.status(), self.code(), self.to_string());
        body.into_response(Shape::of(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn unsafe_requests_are_rejected() {
        let host = ("host", "h");
        for (method, uri, headers, expected) in [
            ("GET", "/", &[host][..], None),
            ("GET", "/", &[("host", "[::1]:80")], None),
            ("GET", "/", &[("host", "")], None),
            ("OPTIONS", "*", &[host], None),
            ("POST", "/", &[host, ("transfer-encoding", "Chunked")], None),
            ("TRACE", "/", &[host], Some(Fault::Method)),
            ("CONNECT", "h:443", &[host], Some(Fault::Method)),
            ("GET", "http://u@h/", &[host], Some(Fault::UserInfo)),
            ("GET", "/", &[], Some(Fault::Host)),
            ("GET", "/", &[host, host], Some(Fault::Host)),
            ("GET", "/", &[("host", "u@h")], Some(Fault::Host)),
            ("GET", "/", &[("host", "a/b")], Some(Fault::Host)),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "gzip, chunked")],
                Some(Fault::Coding),
            ),
            (
                "POST",
                "/",
                &[
                    host,
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Some(Fault::Coding),
            ),
        ] {
            assert_eq!(
                fault(&request(method, uri, headers), Access::Everything),
                expected,
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn only_http_1_1_requires_a_host_header() {
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut request = request("GET", "/", &[]);
            *request.version_mut() = version;
            assert_eq!(fault(&request, Access::Everything), None);
        }
    }

    #[test]
    fn only_health_is_served_without_a_certificate_that_is_needed() {
        for (path, expected) in [
            ("/livez", None),
            ("/readyz?verbose", None),
            ("/metrics", Some(Fault::Certificate)),
            ("/readyz/", Some(Fault::Certificate)),
            ("/v1/keys", Some(Fault::Certificate)),
        ] {
            let request = request("GET", path, &[("host", "h")]);
            assert_eq!(fault(&request, Access::Health), expected, "{path}");
            assert_eq!(fault(&request, Access::Everything), None, "{path}");
        }
    }
}
