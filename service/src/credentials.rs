//! Parses the API key of a request, for all listeners.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

/// The key in `X-Api-Key`, or else the bearer token in `Authorization` (RFC 6750, with the scheme in any case).
///
/// `None` if neither header is present, or if the one that takes precedence is empty or cannot be read.
#[must_use]
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    let key = match headers.get("x-api-key") {
        Some(key) => key.to_str().ok()?,
        None => {
            let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
            let (scheme, key) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())?
        }
    };
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn key_in(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        presented(&HeaderMap::from_iter(headers)).map(str::to_owned)
    }

    #[test]
    fn key_is_read_from_bearer_or_x_api_key() {
        for (headers, expected) in [
            (&[("authorization", "Bearer k1")][..], Some("k1")),
            (&[("authorization", "bearer  k1 ")], Some("k1")),
            (&[("authorization", "BEARER k1")], Some("k1")),
            (&[("authorization", "Basic k1")], None),
            (&[("authorization", "k1")], None),
            (&[("x-api-key", "k2")], Some("k2")),
            (
                &[("authorization", "Bearer k1"), ("x-api-key", "k2")],
                Some("k2"),
            ),
            (&[("cookie", "k3")], None),
            (&[("x-api-key", "")], None),
            (&[("authorization", "Bearer ")], None),
        ] {
            assert_eq!(key_in(headers).as_deref(), expected, "{headers:?}");
        }
    }
}
