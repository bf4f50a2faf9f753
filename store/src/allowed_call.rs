//! The calls to GHL that an API key may make, such as `GET /contacts/*`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The methods that may be named, in the order in which they are written.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The longest text of a rule, in bytes.
const MAX_BYTES: usize = 200;

/// Methods, and a path of GHL or a prefix of paths.
///
/// As text: methods separated by commas, or `*` for all, a space, and the path without GHL's host. `/contacts` is that
/// path alone, `/contacts/*` also all paths below it. A slash at the end makes no difference. `GET` includes `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedCall {
    methods: Methods,
    segments: Vec<String>,
    /// Whether paths below are included.
    is_prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Methods {
    All,
    /// In the order of [`METHODS`].
    Of(Vec<&'static str>),
}

/// The text is no [`AllowedCall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an allowed call is methods and a path of GHL, such as `GET /contacts/*`, `GET,POST /products` or `* /calendars/*`; \
     the path has no query, and `*` only at its end"
)]
pub struct ParseAllowedCallError;

impl AllowedCall {
    /// Whether the rule includes a call. `path` is below GHL's host, and may be percent-encoded. A path that different
    /// servers may read in different ways is never included.
    #[must_use]
    pub fn includes(&self, method: &str, path: &str) -> bool {
        let is_method = match &self.methods {
            Methods::All => true,
            Methods::Of(named) => {
                named.contains(&method) || (method == "HEAD" && named.contains(&"GET"))
            }
        };
        is_method && self.includes_path(path)
    }

    /// Whether the rule includes each call that `narrower` includes.
    #[must_use]
    pub fn covers(&self, narrower: &Self) -> bool {
        let has_methods = match (&self.methods, &narrower.methods) {
            (Methods::All, Methods::All | Methods::Of(_)) => true,
            (Methods::Of(_), Methods::All) => false,
            (Methods::Of(own), Methods::Of(its)) => its
                .iter()
                .all(|method| own.contains(method) || (*method == "HEAD" && own.contains(&"GET"))),
        };
        let has_paths = match self.is_prefix {
            true => narrower.segments.starts_with(&self.segments),
            false => !narrower.is_prefix && narrower.segments == self.segments,
        };
        has_methods && has_paths
    }

    /// Whether the rule includes every path.
    #[must_use]
    pub fn is_for_all_paths(&self) -> bool {
        self.is_prefix && self.segments.is_empty()
    }

    fn includes_path(&self, path: &str) -> bool {
        let mut expected = self.segments.iter();
        for segment in path.split('/') {
            let Some(segment) = unambiguous(segment) else {
                return false;
            };
            if segment.is_empty() || segment == "." {
                continue;
            }
            match expected.next() {
                Some(expected) if *expected == segment => {}
                None if self.is_prefix => {}
                Some(_) | None => return false,
            }
        }
        expected.next().is_none()
    }
}

/// The decoded segment; `None` if it could be read as another path.
fn unambiguous(segment: &str) -> Option<Cow<'_, str>> {
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    let is_risky = |c: char| matches!(c, '/' | '\\' | '%' | ';' | '?' | '#') || c.is_control();
    (decoded != ".." && !decoded.contains(is_risky)).then_some(decoded)
}

impl fmt::Display for AllowedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.methods {
            Methods::All => f.write_str("*")?,
            Methods::Of(named) => f.write_str(&named.join(","))?,
        }
        f.write_str(" /")?;
        f.write_str(&self.segments.join("/"))?;
        match (self.is_prefix, self.segments.is_empty()) {
            (true, true) => f.write_str("*"),
            (true, false) => f.write_str("/*"),
            (false, _) => Ok(()),
        }
    }
}

impl FromStr for AllowedCall {
    type Err = ParseAllowedCallError;

    fn from_str(text: &str) -> Result<Self, ParseAllowedCallError> {
        let (methods, path) = text.trim().split_once(' ').ok_or(ParseAllowedCallError)?;
        let path = path.trim().strip_prefix('/').ok_or(ParseAllowedCallError)?;
        let (path, is_prefix) = match path.strip_suffix('*') {
            Some(path) if path.is_empty() || path.ends_with('/') => (path, true),
            Some(_) => return Err(ParseAllowedCallError),
            None => (path, false),
        };
        let is_plain = |c: char| c.is_ascii_graphic() && !"%*,;?#\\\"'<>".contains(c);
        let mut segments = path.split('/').filter(|it| !it.is_empty());
        let is_readable = segments.all(|it| !matches!(it, "." | "..") && it.chars().all(is_plain));
        if text.len() > MAX_BYTES || !is_readable {
            return Err(ParseAllowedCallError);
        }
        let segments = path.split('/').filter(|it| !it.is_empty());
        Ok(Self {
            methods: parse_methods(methods)?,
            segments: segments.map(str::to_owned).collect(),
            is_prefix,
        })
    }
}

fn parse_methods(text: &str) -> Result<Methods, ParseAllowedCallError> {
    if text == "*" {
        return Ok(Methods::All);
    }
    let named: Vec<String> = text.split(',').map(str::to_ascii_uppercase).collect();
    if named.iter().any(|it| !METHODS.contains(&it.as_str())) {
        return Err(ParseAllowedCallError);
    }
    let in_order = METHODS
        .into_iter()
        .filter(|it| named.iter().any(|name| name == it));
    Ok(Methods::Of(in_order.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> AllowedCall {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn rule_has_one_text() {
        for (written, read) in [
            ("GET /contacts/*", "GET /contacts/*"),
            ("post,get /contacts/", "GET,POST /contacts"),
            ("* /*", "* /*"),
            ("GET /", "GET /"),
            (" DELETE  /a//b/* ", "DELETE /a/b/*"),
        ] {
            assert_eq!(rule(written).to_string(), read, "{written}");
            assert_eq!(rule(read), rule(written), "{written}");
        }
        for wrong in [
            "",
            "GET",
            "/contacts",
            "GET contacts",
            "FETCH /contacts",
            "GET, /contacts",
            "GET /con*",
            "GET /*/notes",
            "GET /a/../b",
            "GET /a?b=c",
            "GET /%61",
            "GET /a b",
            "GET /a\nb",
        ] {
            assert!(wrong.parse::<AllowedCall>().is_err(), "{wrong}");
        }
        assert!(
            format!("GET /{}", "a".repeat(MAX_BYTES))
                .parse::<AllowedCall>()
                .is_err()
        );
    }

    #[test]
    fn methods_are_compared() {
        let reads = rule("GET /contacts/*");
        assert!(reads.includes("GET", "/contacts/"));
        assert!(reads.includes("HEAD", "/contacts/"));
        assert!(!reads.includes("POST", "/contacts/"));
        assert!(
            !reads.includes("get", "/contacts/"),
            "methods are case-sensitive"
        );
        assert!(rule("* /contacts").includes("PURGE", "/contacts"));
    }

    #[test]
    fn rule_covers_those_that_include_no_other_call() {
        for (wider, narrower) in [
            ("GET /contacts/*", "GET /contacts/*"),
            ("GET /contacts/*", "GET /contacts"),
            ("GET /contacts/*", "GET,HEAD /contacts/notes/*"),
            ("* /*", "* /contacts/*"),
            ("GET,POST /contacts", "POST /contacts"),
        ] {
            assert!(rule(wider).covers(&rule(narrower)), "{wider} {narrower}");
        }
        for (other, call) in [
            ("GET /contacts/*", "* /contacts"),
            ("GET /contacts/*", "GET,POST /contacts"),
            ("HEAD /contacts", "GET /contacts"),
            ("GET /contacts", "GET /contacts/*"),
            ("GET /contacts/*", "GET /*"),
            ("GET /contacts/*", "GET /contactsx"),
        ] {
            assert!(!rule(other).covers(&rule(call)), "{other} {call}");
        }
        assert!(rule("GET /*").is_for_all_paths());
        assert!(!rule("* /").is_for_all_paths() && !rule("* /a/*").is_for_all_paths());
    }

    #[test]
    fn paths_are_compared_by_whole_segments() {
        let below = rule("GET /contacts/*");
        for path in [
            "/contacts",
            "/contacts/",
            "/contacts/1",
            "//contacts/./1/notes",
            "/c%6fntacts/a%20b",
        ] {
            assert!(below.includes("GET", path), "{path}");
        }
        for path in [
            "/",
            "/contactsx",
            "/contact",
            "/Contacts/1",
            "/users/contacts",
        ] {
            assert!(!below.includes("GET", path), "{path}");
        }
        let alone = rule("GET /contacts");
        assert!(alone.includes("GET", "/contacts/"));
        assert!(!alone.includes("GET", "/contacts/1"));
        assert!(rule("GET /*").includes("GET", "/anything/at/all"));
        assert!(!rule("GET /").includes("GET", "/x"));
    }

    #[test]
    fn paths_that_servers_read_differently_are_not_included() {
        let below = rule("* /contacts/*");
        for path in [
            "/contacts/..",
            "/contacts/../users",
            "/contacts/%2e%2e/users",
            "/contacts/%2E./users",
            "/contacts/..%2fusers",
            "/contacts/..%5cusers",
            "/contacts\\..\\users",
            "/contacts/%252e%252e/users",
            "/contacts/..;/users",
            "/contacts/%3f",
            "/contacts/%23",
            "/contacts/%00",
            "/contacts/%ff",
        ] {
            assert!(!below.includes("GET", path), "{path}");
        }
    }
}
