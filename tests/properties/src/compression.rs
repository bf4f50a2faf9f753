//! Compressed tokens and scopes: `store/src/compress.rs`.

use store::fuzzing::{compress_text, compress_token, decompress_text, decompress_token};

use crate::input;

/// The largest length of two bytes.
const MAX_BLOCK: usize = 65_535;

/// Every text comes back, no larger than it was. Damaged bytes are refused or read, and never grow without bounds.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    round_trip(&text);
    round_trip(&format!("eyJhbGciOiJSUzI1NiJ9.{text}.c2ln"));
    if let Some(token) = decompress_token(bytes) {
        // Base64 makes four bytes of three, and each part can have a dot.
        assert!(token.len() <= bytes.len().max(MAX_BLOCK) * 2);
        round_trip(&token);
    }
    if let Some(text) = decompress_text(bytes) {
        assert!(text.len() <= bytes.len().max(MAX_BLOCK));
        round_trip(&text);
    }
}

fn round_trip(text: &str) {
    let token = compress_token(text);
    assert!(token.len() <= text.len());
    assert_eq!(decompress_token(&token).as_deref(), Some(text));
    let compressed = compress_text(text);
    assert!(compressed.len() <= text.len());
    assert_eq!(decompress_text(&compressed).as_deref(), Some(text));
}
