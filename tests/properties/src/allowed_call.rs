//! The calls that an API key may make: `store::AllowedCall`.
//!
//! Input: a rule and the path of a call, one a line.

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use store::AllowedCall;
use url::Url;

use crate::input::{self, assert_showable};

/// A rule has one text. A path that it includes begins with the rule's path, also for a server that decodes it and
/// removes dot segments as browsers do.
pub fn check(bytes: &[u8]) {
    let ([rule, path], _) = input::lines(bytes);
    let rule: AllowedCall = match input::text(rule).parse() {
        Ok(rule) => rule,
        Err(error) => return assert_showable(&format!("{error}"), 400),
    };
    let shown = rule.to_string();
    assert_showable(&shown, 240);
    assert_eq!(shown.parse().as_ref(), Ok(&rule));

    let Ok(target) = input::text(path).parse::<PathAndQuery>() else {
        return;
    };
    let path = target.path();
    if !path.starts_with('/') || !rule.includes("GET", path) {
        return;
    }
    let url = Url::parse(&format!("https://upstream.example{path}"));
    let url = url.expect("a URL for a path that is included");
    let read = percent_decode_str(url.path()).decode_utf8_lossy();
    let read: Vec<&str> = read.split('/').filter(|it| !it.is_empty()).collect();
    let (_, wanted) = shown.split_once(' ').expect("methods and a path");
    let is_prefix = wanted.ends_with('*');
    let wanted = wanted.trim_end_matches('*').split('/');
    let wanted: Vec<&str> = wanted.filter(|it| !it.is_empty()).collect();
    assert!(read.starts_with(&wanted), "{shown} includes {path}");
    assert!(
        is_prefix || read.len() == wanted.len(),
        "{shown} includes {path}"
    );
}
