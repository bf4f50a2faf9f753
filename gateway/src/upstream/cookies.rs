//! Keeps evergreen's own cookies from GHL. A browser sends those of the console, or of a consent, to every port of their
//! host, so also to the gateway.

use std::borrow::Cow;

use http::HeaderValue;

/// The beginning of the names of all cookies of evergreen, behind the prefix that browsers know.
const OURS: &str = "evergreen_";

/// The cookies that GHL may see. `None` if none is left.
pub(super) fn for_ghl(cookies: &HeaderValue) -> Option<Cow<'_, HeaderValue>> {
    let Ok(text) = cookies.to_str() else {
        let has_ours = contains(cookies.as_bytes(), OURS.as_bytes());
        return (!has_ours).then_some(Cow::Borrowed(cookies));
    };
    if !text.contains(OURS) {
        return Some(Cow::Borrowed(cookies));
    }
    let others: Vec<&str> = text
        .split(';')
        .map(str::trim)
        .filter(|pair| !is_ours(pair))
        .collect();
    if others.is_empty() {
        return None;
    }
    HeaderValue::from_str(&others.join("; "))
        .ok()
        .map(Cow::Owned)
}

fn is_ours(pair: &str) -> bool {
    pair.strip_prefix("__Host-")
        .unwrap_or(pair)
        .starts_with(OURS)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cookies_are_removed_and_others_pass_as_they_are() {
        let passed = |cookies: &[u8]| {
            let value = HeaderValue::from_bytes(cookies).unwrap();
            for_ghl(&value).map(|value| value.as_bytes().to_vec())
        };
        for same in [&b"a=1;b=2"[..], b"", b"a=\xff", b"my=evergreen"] {
            assert_eq!(passed(same).as_deref(), Some(same));
        }
        let mixed = b"a=1; evergreen_console_9080=secret; __Host-evergreen_notice=x;b=2";
        assert_eq!(passed(mixed).as_deref(), Some(&b"a=1; b=2"[..]));
        assert_eq!(passed(b"evergreen_consent_1=x"), None);
        assert_eq!(passed(b"evergreen_console=\xff"), None);
    }
}
