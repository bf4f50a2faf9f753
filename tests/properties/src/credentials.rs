//! The API key of a request: `service::credentials`.
//!
//! Input: headers.

use service::credentials::presented;

use crate::input;

/// A key is visible text, or has blanks within it, as no key has. It comes from the header that takes precedence, and from nowhere else.
pub fn check(bytes: &[u8]) {
    let headers = input::headers(bytes);
    let key = presented(&headers);
    if let Some(key) = key {
        assert!(!key.is_empty());
        let is_visible = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
        assert!(key.bytes().all(is_visible), "{key:?}");
        assert_eq!(key.trim(), key);
    }
    if let Some(own) = headers.get("x-api-key") {
        assert!(key.is_none_or(|key| key.as_bytes() == own.as_bytes()));
        let mut without = headers.clone();
        without.remove("authorization");
        assert_eq!(presented(&without), key, "X-Api-Key takes precedence");
    } else if let Some(authorization) = headers.get("authorization") {
        let text = authorization.to_str().unwrap_or_default();
        let is_bearer = text
            .get(..7)
            .is_some_and(|it| it.eq_ignore_ascii_case("bearer "));
        assert!(key.is_none() || is_bearer, "{text}");
        let rest = text.get(7..).unwrap_or_default().trim();
        let expected = Some(rest).filter(|rest| is_bearer && !rest.is_empty());
        assert_eq!(key, expected);
    } else {
        assert_eq!(key, None);
    }
}
