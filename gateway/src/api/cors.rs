//! Cross-origin requests (CORS): web pages of the origins in `EVERGREEN_CORS_ORIGINS` can call GHL, with a key.
//!
//! Without the setting, nothing here changes a request or a response.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use service::config::{Settings, is_loopback};
use url::Url;

use crate::request::path;

const KEY: &str = "EVERGREEN_CORS_ORIGINS";

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// The headers that pages can read, besides those that they always can.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, X-RateLimit-Limit-Daily, X-RateLimit-Daily-Remaining, \
     X-RateLimit-Interval-Milliseconds, X-RateLimit-Max, X-RateLimit-Remaining, Mcp-Session-Id, Mcp-Protocol-Version",
);

/// Two hours, the longest that Chromium accepts. After an origin is removed, its pages can still send requests for this
/// time, but cannot read the responses.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const BY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// The origins whose pages may call. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct CorsOrigins {
    /// As browsers write them. Empty without the setting.
    listed: Arc<[HeaderValue]>,
}

/// The page that makes a request, as far as CORS is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// CORS is not the gateway's concern: without the setting, and for other routes.
    Unchecked,
    /// A page of an origin that is not listed, or no page.
    Other,
    /// A page of this origin.
    Listed(HeaderValue),
}

impl CorsOrigins {
    /// Reads `EVERGREEN_CORS_ORIGINS`.
    pub(crate) fn read(settings: &mut Settings<'_>) -> Self {
        let text = settings.text(KEY).unwrap_or_default();
        let allows_cleartext = settings.parse("EVERGREEN_ALLOW_CLEARTEXT", false, "true or false");
        let entries = text.split(',').map(str::trim);
        let mut listed = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            match origin(entry, allows_cleartext) {
                Ok(origin) => listed.push(origin),
                Err(reason) => settings.mistake(KEY, reason),
            }
        }
        Self {
            listed: listed.into(),
        }
    }

    /// Whether a page of a listed origin made the request.
    pub(crate) fn has_origin_of(&self, headers: &HeaderMap) -> bool {
        self.origin_of(headers).is_some()
    }

    pub(crate) fn page_of(&self, request: &Request) -> Page {
        let path = request.uri().path();
        if self.listed.is_empty() || !is_for_pages(path) {
            return Page::Unchecked;
        }
        match self.origin_of(request.headers()) {
            // A token outlives the page, and every script of the page could keep it.
            Some(origin) if !gives_tokens(path) => Page::Listed(origin.clone()),
            Some(_) | None => Page::Other,
        }
    }

    fn origin_of(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        if self.listed.is_empty() {
            return None;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (Some(origin), None) => self.listed.iter().find(|listed| *listed == origin),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }
}

impl Page {
    /// The origin to which a preflight is answered. A preflight has no key. Other ones go to GHL as they are, and
    /// need a key.
    pub(crate) fn preflight(&self, request: &Request) -> Option<&HeaderValue> {
        let is_preflight = request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        match self {
            Self::Listed(origin) if is_preflight => Some(origin),
            Self::Listed(_) | Self::Unchecked | Self::Other => None,
        }
    }

    /// Replaces GHL's decisions about origins in a response, also in one that is an error.
    pub(crate) fn decide(self, response: &mut Response) {
        let origin = match self {
            Self::Unchecked => return,
            Self::Other => None,
            Self::Listed(origin) => Some(origin),
        };
        let headers = response.headers_mut();
        let is_about_origins = |name: &&HeaderName| name.as_str().starts_with("access-control-");
        let of_ghl: Vec<_> = headers.keys().filter(is_about_origins).cloned().collect();
        for name in of_ghl {
            headers.remove(name);
        }
        headers.append(VARY, BY_ORIGIN);
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// The answer to a preflight of a page of a listed `origin`. Keys are no cookies, so no credentials are allowed.
pub(crate) fn preflight(origin: HeaderValue, request: &Request) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(VARY, BY_PREFLIGHT);
    response
}

/// The routes that call GHL, and the state of an installation. No page has a reason to call others.
fn is_for_pages(path: &str) -> bool {
    let is_below = |prefix: &str| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    ["/ghl", "/api/ghl", "/mcp"].into_iter().any(is_below)
        || matches!(path, "/mcp" | "/api/oauth/status")
}

fn gives_tokens(path: &str) -> bool {
    path.strip_prefix("/ghl").is_some_and(path::gives_tokens)
}

/// An origin as browsers write it, or what is wrong with it.
fn origin(text: &str, allows_cleartext: bool) -> Result<HeaderValue, String> {
    const EXPECTED: &str = "must be origins separated by commas, such as https://app.example.com";
    if text.contains('*') {
        return Err(format!(
            "must not have *: any web page could then use a key that it got hold of. It {EXPECTED}"
        ));
    }
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{EXPECTED}: the scheme must be https"));
    }
    if url.scheme() == "http" && !is_loopback(&url) && !allows_cleartext {
        return Err(format!(
            "{EXPECTED}: everyone on the way could change a page of http:// and read its key. Set \
             EVERGREEN_ALLOW_CLEARTEXT=true where the network is private"
        ));
    }
    // In lower case, without the scheme's usual port.
    let origin = url.origin().ascii_serialization();
    if origin != text {
        return Err(format!("{EXPECTED}: a browser writes {origin}"));
    }
    HeaderValue::try_from(origin).map_err(|_| EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(text: &str) -> Result<CorsOrigins, String> {
        let source = HashMap::from([(KEY.to_owned(), text.to_owned())]);
        let mut settings = Settings::new(&source);
        let origins = CorsOrigins::read(&mut settings);
        let finished = settings.finish(origins);
        finished.map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let read = read(
            "https://app.example.com, http://localhost:3000,,https://xn--bcher-kva.example:8443",
        );
        let listed = read.unwrap().listed;
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[1], "http://localhost:3000");
    }

    #[test]
    fn anything_but_an_origin_is_refused_with_the_reason() {
        for (text, reason) in [
            ("*", "any web page"),
            ("null", "separated by commas"),
            ("app.example.com", "separated by commas"),
            (
                "https://app.example.com/",
                "a browser writes https://app.example.com",
            ),
            (
                "https://app.example.com/x?y",
                "a browser writes https://app.example.com",
            ),
            (
                "https://app.example.com:443",
                "a browser writes https://app.example.com",
            ),
            (
                "https://APP.example.com",
                "a browser writes https://app.example.com",
            ),
            (
                "https://user:pass@app.example.com",
                "a browser writes https://app.example.com",
            ),
            ("https://*.example.com", "any web page"),
            ("chrome-extension://abc", "the scheme must be https"),
            ("http://app.example.com", "EVERGREEN_ALLOW_CLEARTEXT"),
            ("https://a.example https://b.example", "separated by commas"),
        ] {
            let mistake = read(text).unwrap_err();
            assert!(
                mistake.contains(KEY) && mistake.contains(reason),
                "{text}: {mistake}"
            );
            assert!(!mistake.contains("pass"), "{mistake}");
        }
    }

    fn page_of(origins: &str, path: &str, sent: &[&'static str]) -> Page {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        for origin in sent {
            let origin = HeaderValue::from_static(origin);
            request.headers_mut().append(ORIGIN, origin);
        }
        read(origins).unwrap().page_of(&request)
    }

    #[test]
    fn only_listed_origins_and_calls_of_ghl_count() {
        const APP: &str = "https://app.example.com";
        const OTHERS: [&str; 6] = [
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://APP.example.com",
            "null",
        ];
        let listed = || Page::Listed(HeaderValue::from_static(APP));
        for (path, expected) in [
            ("/ghl/contacts/", listed()),
            ("/api/ghl/products", listed()),
            ("/mcp", listed()),
            ("/mcp/", listed()),
            ("/mcpx", Page::Unchecked),
            ("/api/oauth/status?installation_id=a", listed()),
            ("/ghl/oauth/locationToken", Page::Other),
            ("/ghl//%6Fauth/locationToken", Page::Other),
            ("/ghlx", Page::Unchecked),
            ("/oauth/install", Page::Unchecked),
            ("/webhooks/ghl", Page::Unchecked),
            ("/health", Page::Unchecked),
        ] {
            assert_eq!(page_of(APP, path, &[APP]), expected, "{path}");
            assert_eq!(page_of("", path, &[APP]), Page::Unchecked, "{path}");
        }
        for other in OTHERS {
            assert_eq!(page_of(APP, "/ghl/x", &[other]), Page::Other, "{other}");
        }
        assert_eq!(page_of(APP, "/ghl/x", &[APP, APP]), Page::Other);
        assert_eq!(page_of(APP, "/ghl/x", &[]), Page::Other);
    }

    #[test]
    fn ghls_decisions_are_replaced() {
        let of_ghl = || {
            let mut response = Response::new(Body::empty());
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert(
                "access-control-allow-credentials",
                HeaderValue::from_static("true"),
            );
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        };
        let origin = HeaderValue::from_static("https://app.example.com");
        for (page, expected) in [
            (Page::Listed(origin.clone()), Some(&origin)),
            (Page::Other, None),
        ] {
            let mut response = of_ghl();
            page.decide(&mut response);
            let headers = response.headers();
            assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_ORIGIN), expected);
            assert!(!headers.contains_key("access-control-allow-credentials"));
            let vary: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(vary, ["Accept-Encoding", "Origin"]);
        }
        let mut response = of_ghl();
        Page::Unchecked.decide(&mut response);
        assert_eq!(response.headers(), of_ghl().headers());
    }
}
