//! Private functions for `tests/properties`.

use crate::compress;

/// See `compress::compress_token`.
#[must_use]
pub fn compress_token(token: &str) -> Vec<u8> {
    compress::compress_token(token).to_vec()
}

/// See `compress::decompress_token`.
#[must_use]
pub fn decompress_token(stored: &[u8]) -> Option<String> {
    compress::decompress_token(stored).map(|token| token.to_string())
}

/// See `compress::compress_text`.
#[must_use]
pub fn compress_text(text: &str) -> Vec<u8> {
    compress::compress_text(text)
}

/// See `compress::decompress_text`.
#[must_use]
pub fn decompress_text(stored: &[u8]) -> Option<String> {
    compress::decompress_text(stored)
}
