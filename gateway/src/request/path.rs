//! The path below `/ghl`, which cannot lead out of GHL's base URL.

use percent_encoding::percent_decode_str;

/// A path that might lead out of the base URL.
#[derive(Debug, thiserror::Error)]
#[error("The path is not forwarded: it has a `..` segment, a backslash, or `//` at its start")]
pub(crate) struct Escape;

/// Passes a path on as it is, if it stays under any base URL it is appended to.
pub(crate) fn checked(path: &str) -> Result<&str, Escape> {
    // Almost no path has any of these, and then a look at its bytes is all it costs.
    let is_plain = !path.bytes().any(|byte| matches!(byte, b'%' | b'\\'))
        && !path.contains("..")
        && !path.starts_with("//");
    if is_plain || stays(&percent_decode_str(path).decode_utf8_lossy()) {
        Ok(path)
    } else {
        Err(Escape)
    }
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
    fn no_path_leaves_the_base() {
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
