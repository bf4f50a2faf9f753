//! The operation of a call: `ghl/src/operations.rs`.

use ghl::operations::{Segments, find};
use http::Method;
use percent_encoding::percent_decode_str;

use crate::input;

/// An operation is found only for a path with its literal segments, and its owner is a segment of that path.
pub fn check(bytes: &[u8]) {
    let path = input::text(bytes);
    let segments: Vec<&str> = Segments::of(&path).collect();
    assert!(
        segments
            .iter()
            .all(|it| !it.is_empty() && !it.contains('/'))
    );
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let Some(operation) = find(&method, &path) else {
            continue;
        };
        let its: Vec<&str> = Segments::of(operation.path).collect();
        assert_eq!(segments.len(), its.len(), "{path} {}", operation.path);
        for (segment, its) in segments.iter().zip(its) {
            let decoded = percent_decode_str(segment).decode_utf8_lossy();
            let is_same = its.starts_with('{') || decoded.eq_ignore_ascii_case(its);
            assert!(is_same, "{path} {}", operation.path);
        }
        for places in [&operation.location, &operation.company] {
            let named = places.in_path(&path);
            assert_eq!(named, places.segment.map(|at| segments[at]));
        }
        // A slash at the end changes nothing.
        assert_eq!(find(&method, &format!("{path}/")), Some(operation));
    }
    assert_eq!(find(&Method::HEAD, &path), find(&Method::GET, &path));
}
