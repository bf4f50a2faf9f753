//! Headers that callers speak to the gateway with.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

/// Names the installation to us.
pub(crate) const INSTALLATION: HeaderName = HeaderName::from_static("x-installation-id");
/// How long the caller lets its call wait for its turn.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// Ties the log lines of everyone who handled a request together.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    content_type
        .and_then(|it| it.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_told_by_its_essence() {
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
