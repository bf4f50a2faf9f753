//! The path of a call: `gateway/src/request/path.rs`.

use gateway::fuzzing::{gives_tokens, is_safe_path};
use http::uri::PathAndQuery;
use url::Url;

use crate::input;

/// A path that is accepted stays below the base URL, also for a server that removes dot segments as browsers do. Then
/// GHL's routes that give tokens are recognized.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    let target = text.lines().next().unwrap_or_default();
    let Ok(target) = target.parse::<PathAndQuery>() else {
        return;
    };
    let path = target.path();
    // Only such paths come from a request line.
    if !path.starts_with('/') || !is_safe_path(path) {
        return;
    }
    for base in ["/v1", ""] {
        let url = Url::parse(&format!("https://upstream.example{base}{path}"));
        let url = url.expect("a URL for a path that is accepted");
        assert_eq!(url.host_str(), Some("upstream.example"));
        let below = url.path().strip_prefix(base);
        let below = below.unwrap_or_else(|| panic!("{path} escapes to {url}"));
        assert!(below.starts_with('/'), "{path} escapes to {url}");
        let first = below.split('/').find(|segment| !segment.is_empty());
        let is_oauth = first.is_some_and(|it| it.eq_ignore_ascii_case("oauth"));
        assert!(!is_oauth || gives_tokens(path), "{path} gives tokens");
    }
}
