//! Fields of a caller's body, of its beginning, and of gzip: `gateway/src/request/body_fields.rs` and
//! `gateway/src/request/content_coding.rs`.
//!
//! Input: a line with the `Content-Type`, then the body.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use gateway::fuzzing::{body_texts, gunzip};
use http::HeaderValue;

use crate::input;

/// Far less than a body can expand to.
const LIMIT: usize = 4096;

/// A field that the beginning of a body has is that of the whole body. A byte order mark hides none. Decompressed
/// bytes are bounded, and those that were compressed.
pub fn check(bytes: &[u8]) {
    let ([content_type], body) = input::lines(bytes);
    if let Ok(content_type) = HeaderValue::from_bytes(content_type) {
        let whole = body_texts(&content_type, body, true);
        // Each length is tried for short bodies. Longer ones have the same kinds of ends.
        for length in (0..body.len()).rev().take(256) {
            let beginning = body_texts(&content_type, &body[..length], false);
            for (early, whole) in beginning.iter().zip(&whole) {
                assert!(early.is_none() || early == whole, "{length} bytes");
            }
        }
        let marked = [b"\xEF\xBB\xBF", body].concat();
        let is_multipart = content_type.as_bytes().to_ascii_lowercase();
        let is_multipart = is_multipart.trim_ascii().starts_with(b"multipart/");
        if !is_multipart && !body.starts_with(b"\xEF\xBB\xBF") {
            assert_eq!(body_texts(&content_type, &marked, true), whole);
        }
    }
    if let Some(text) = gunzip(body, LIMIT) {
        assert!(text.len() <= LIMIT);
        // A body over the limit is refused, and not cut off.
        if let Some(less) = text.len().checked_sub(1) {
            assert_eq!(gunzip(body, less), None);
        }
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory");
    let compressed = encoder.finish().expect("memory");
    assert_eq!(gunzip(&compressed, body.len()).as_deref(), Some(body));
}
