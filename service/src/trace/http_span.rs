//! Spans of HTTP requests, by OpenTelemetry's semantic conventions. None of them has a query, a header or a body.

use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use tracing::field::Empty;
use tracing::{Span, debug_span};

/// The span of a request that this process answers, a part of the caller's trace.
///
/// `route`: the template of the path, if one matches. `path`: without the query and without secrets; `None` if it may
/// have some.
#[must_use]
pub fn server_span<B>(request: &Request<B>, route: Option<&str>, path: Option<&str>) -> Span {
    let method = request.method();
    let span = debug_span!(
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        "http.request.method" = known(method),
        "http.route" = route,
        "http.response.status_code" = Empty,
        "url.path" = path,
        "server.address" = Empty,
        "error.type" = Empty,
        request_id = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    match route {
        Some(route) => span.record("otel.name", format!("{} {route}", name(method))),
        None => span.record("otel.name", name(method)),
    };
    // HTTP/2 has it in the URI.
    let authority = request.uri().host().map(str::to_owned);
    if let Some(host) = authority.or_else(|| host(request.headers())) {
        span.record("server.address", host);
    }
    super::continue_from(&span, request.headers());
    span
}

/// The span of one request to a server. `path`: without the query and without secrets. `template`: what it is an
/// instance of, if that is known.
#[must_use]
pub fn client_span(method: &Method, server: &str, path: &str, template: Option<&str>) -> Span {
    let span = debug_span!(
        "send",
        otel.name = name(method),
        otel.kind = "client",
        otel.status_code = Empty,
        "http.request.method" = known(method),
        "http.response.status_code" = Empty,
        "url.path" = path,
        "url.template" = template,
        "server.address" = server,
        "error.type" = Empty,
    );
    if let Some(template) = template.filter(|_| !span.is_disabled()) {
        span.record("otel.name", format!("{} {template}", name(method)));
    }
    span
}

/// Records the status of an answer. For a server a 4xx is the caller's error, for a client each error is one.
pub fn answered(span: &Span, status: StatusCode, is_client: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() || (is_client && status.is_client_error()) {
        failed(span, status.as_str());
    }
}

/// Records a failure. `kind`: one word, of few.
pub fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}

/// The method as an attribute. Callers can invent any number of them.
fn known(method: &Method) -> &str {
    match *method {
        Method::CONNECT
        | Method::DELETE
        | Method::GET
        | Method::HEAD
        | Method::OPTIONS
        | Method::PATCH
        | Method::POST
        | Method::PUT
        | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

/// The method in the name of a span.
fn name(method: &Method) -> &str {
    match known(method) {
        "_OTHER" => "HTTP",
        known => known,
    }
}

/// The host that a request is for, without its port.
fn host(headers: &HeaderMap) -> Option<String> {
    let host: Uri = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    host.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_method_is_no_name_of_a_span() {
        let invented: Method = "BREW".parse().unwrap();
        assert_eq!((known(&invented), name(&invented)), ("_OTHER", "HTTP"));
        assert_eq!(
            (known(&Method::PATCH), name(&Method::PATCH)),
            ("PATCH", "PATCH")
        );
    }

    #[test]
    fn host_has_no_port() {
        for (sent, expected) in [
            ("crm.example.com:8443", Some("crm.example.com")),
            ("[::1]:8080", Some("[::1]")),
            ("a b", None),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, sent.parse().unwrap())]);
            assert_eq!(host(&headers).as_deref(), expected);
        }
    }
}
