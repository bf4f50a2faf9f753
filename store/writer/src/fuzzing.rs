//! Private functions for `tests/properties`.

use crate::journal::Entry;

/// See `Entry::encode`.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry.encode()
}

/// See `Entry::decode`.
#[must_use]
pub fn decode_entry(key: &str, value: &[u8]) -> Option<Entry> {
    Entry::decode(key, value)
}
