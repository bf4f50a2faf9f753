//! Checks the path below `/ghl`, so that it cannot escape from GHL's base URL (path traversal).

use percent_encoding::percent_decode_str;

/// A path that might escape from the base URL.
#[derive(Debug, thiserror::Error)]
#[error("The path is not forwarded: it has a `..` segment, a backslash, or `//` at its start")]
pub(crate) struct UnsafePath;

/// Returns the path unchanged, if it stays below any base URL that it is appended to.
pub(crate) fn checked(path: &str) -> Result<&str, UnsafePath> {
    // Almost no path contains any of these. Then one pass over its bytes is enough.
    let is_plain = !path.bytes().any(|byte| matches!(byte, b'%' | b'\\'))
        && !path.contains("..")
        && !path.starts_with("//");
    if is_plain || stays(&percent_decode_str(path).decode_utf8_lossy()) {
        Ok(path)
    } else {
        Err(UnsafePath)
    }
}

/// Whether GHL answers this path with tokens, such as `/oauth/locationToken`. However it is written.
pub(crate) fn gives_tokens(path: &str) -> bool {
    // Nearly all paths are told by one byte.
    let first = path.bytes().find(|byte| !matches!(byte, b'/' | b'.'));
    if !matches!(first, Some(b'o' | b'O' | b'%')) {
        return false;
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut segments = decoded.split('/').filter(|it| !matches!(*it, "" | "."));
    segments
        .next()
        .is_some_and(|it| it.eq_ignore_ascii_case("oauth"))
}

fn stays(decoded: &str) -> bool {
    !decoded.starts_with("//")
        && !decoded.contains('\\')
        && decoded.split('/').all(|segment| segment != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_give_tokens_are_recognized_however_they_are_written() {
        for path in [
            "/oauth/locationToken",
            "//oauth/x",
            "/./oauth/x",
            "/%6fauth/x",
            "/OAuth/x",
            "/oauth",
        ] {
            assert!(gives_tokens(path), "{path}");
        }
        for path in ["/", "/contacts/oauth/", "/oauthx/y", "/products/"] {
            assert!(!gives_tokens(path), "{path}");
        }
    }

    #[test]
    fn paths_that_escape_the_base_url_are_rejected() {
        for fine in [
            "/",
            "/products/",
            "/a.b/..c/d..",
            "/a/./b",
            "/a%20b",
            "/a//b",
            "/...",
        ] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for tricky in [
            "//evil.example/x",
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a%2f..%2fb",
            "/%2fevil.example",
            "/a\\b",
            "/a%5c..%5cb",
        ] {
            assert!(checked(tricky).is_err(), "{tricky}");
        }
    }
}
