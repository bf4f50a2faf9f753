//! The path of a request as it is logged.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Longer paths are cut, in bytes.
const MOST_BYTES: usize = 512;

/// GHL's own paths. They contain no secrets of ours.
const GHL: &str = "/ghl/";

/// A secret follows each of these segments: `/connect/{token}`, `/oauth/result/{outcome}`.
const BEFORE_SECRETS: [&str; 2] = ["connect", "result"];

/// The path with `-` in the place of a secret. `path`: without the query.
pub(crate) fn loggable(path: &str) -> Cow<'_, str> {
    if !path.starts_with(GHL) {
        // Also of a link that was mistyped, so that it leads nowhere and is still unused.
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        if let Some(at) = secret_at(&decoded) {
            return Cow::Owned([&*cut(&decoded[..at]), "-"].concat());
        }
    }
    cut(path)
}

/// Where the secret begins.
fn secret_at(path: &str) -> Option<usize> {
    let mut end = 0;
    for segment in path.split('/') {
        end += segment.len() + 1;
        let is_before = |name: &&str| segment.eq_ignore_ascii_case(name);
        if end < path.len() && BEFORE_SECRETS.iter().any(is_before) {
            return Some(end);
        }
    }
    None
}

fn cut(path: &str) -> Cow<'_, str> {
    if path.len() <= MOST_BYTES {
        return Cow::Borrowed(path);
    }
    Cow::Owned([&path[..path.floor_char_boundary(MOST_BYTES)], "…"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_paths_are_hidden() {
        for (path, expected) in [
            ("/connect/s3cret", "/connect/-"),
            ("/connect/s3cret/", "/connect/-"),
            ("//Connect/s3cret", "//Connect/-"),
            ("/%63onnect/s3cret", "/connect/-"),
            ("/connect%2Fs3cret", "/connect/-"),
            ("/app/connect/s3cret", "/app/connect/-"),
            ("/oauth/result/s3cret", "/oauth/result/-"),
            ("/connect/", "/connect/"),
            ("/oauth/callback/shop", "/oauth/callback/shop"),
            ("/v1/connect-links", "/v1/connect-links"),
            ("/ghl/connect/x", "/ghl/connect/x"),
            ("/ghl/contacts/a%20b", "/ghl/contacts/a%20b"),
            (
                "/v1/installations/a%2Fb/token",
                "/v1/installations/a%2Fb/token",
            ),
        ] {
            assert_eq!(loggable(path), expected, "{path}");
        }
    }

    #[test]
    fn long_paths_are_cut_between_characters() {
        let long = format!("/ghl/xy{}", "é".repeat(MOST_BYTES));
        let shown = loggable(&long);
        assert!(shown.len() <= MOST_BYTES + "…".len(), "{shown}");
        assert!(shown.ends_with("é…"), "{shown}");
        let before_secret = format!("/{}/connect/s3cret", "x".repeat(MOST_BYTES));
        assert!(!loggable(&before_secret).contains("s3cret"));
    }
}
