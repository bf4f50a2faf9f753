//! Headers of the gateway's own API.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

/// Names the installation.
pub(crate) const INSTALLATION: HeaderName = HeaderName::from_static("x-installation-id");
/// Name the location. GHL's SDKs take one of them to choose the token, for calls that name no location elsewhere.
pub(crate) const LOCATION: [HeaderName; 3] = [
    HeaderName::from_static("locationid"),
    HeaderName::from_static("location-id"),
    HeaderName::from_static("x-location-id"),
];
/// Likewise, for the company.
pub(crate) const COMPANY: [HeaderName; 3] = [
    HeaderName::from_static("companyid"),
    HeaderName::from_static("company-id"),
    HeaderName::from_static("x-company-id"),
];
/// Names the app, for a location or company that has several.
pub(crate) const APP: HeaderName = HeaderName::from_static("x-evergreen-app");
/// How long the call may wait for admission.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// Correlates the log lines of all processes that handled a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type.split(';').next().map(str::trim)
}

/// Whether the body is a stream of server-sent events, which can go on for as long as its reader wants.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|it| it.eq_ignore_ascii_case("text/event-stream"))
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|it| it.eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_detected_by_media_type() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json5", false),
            ("multipart/form-data; boundary=application/json", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(value))];
            assert_eq!(is_json(&HeaderMap::from_iter(headers)), expected);
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
