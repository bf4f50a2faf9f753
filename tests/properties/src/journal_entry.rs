//! Entries of the journal and of escrow: `store_writer::journal::Entry`.
//!
//! Input: a line with the key, then the value.

use store_writer::fuzzing::{decode_entry, encode_entry};

use crate::input;

/// An entry is written as it is read, and GHL's sealed answer keeps every byte.
pub fn check(bytes: &[u8]) {
    let ([key], value) = input::lines(bytes);
    let key = input::text(key);
    let Some(entry) = decode_entry(&key, value) else {
        return;
    };
    assert_eq!(entry.intent.as_str(), key);
    let written = encode_entry(&entry);
    let again = decode_entry(&key, &written).expect("an entry that was written");
    assert_eq!(encode_entry(&again), written);
    assert_eq!(format!("{again:?}"), format!("{entry:?}"));
    let end = value.iter().position(|byte| *byte == b'\n');
    let answer = end.map(|end| &value[end + 1..]);
    for entry in [&entry, &again] {
        assert_eq!(entry.answer.as_ref().map(|it| it.as_bytes()), answer);
    }
}
