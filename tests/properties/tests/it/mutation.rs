//! Nearly valid input: files of a corpus, changed at a few places.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Bytes that mean something to some parser.
const TELLING: [&[u8]; 28] = [
    b"\0",
    b"\n",
    b"\n\n",
    b"\r",
    b"\x1b[2J",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b" ",
    b"\"",
    b"\\",
    b"%2e",
    b"%2F",
    b"..",
    b"//",
    b",",
    b":",
    b";",
    b"=",
    b"&",
    b"?",
    b"#",
    b"@",
    b"[",
    b"{",
    b"-1",
    b"18446744073709551616",
    b"1e999",
];

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// Copies a range of the bytes to another place.
    Copy(Index, usize, Index),
    Truncate(Index),
    /// Goes on with another file from its place.
    Cross(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (place(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        2 => (place(), 1..16_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        4 => (place(), select(TELLING.to_vec()))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes.to_vec())),
        1 => (place(), vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (place(), 1..64_usize, place()).prop_map(|(from, length, to)| Change::Copy(from, length, to)),
        1 => place().prop_map(Change::Truncate),
        2 => (place(), place()).prop_map(|(file, at)| Change::Cross(file, at)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change, files: &[Vec<u8>]) {
    // A place may be at the end.
    let at = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match change {
        Change::Set(index, byte) => {
            let at = index.index(bytes.len().max(1));
            if let Some(it) = bytes.get_mut(at) {
                *it = *byte;
            }
        }
        Change::Flip(index, bits) => {
            let at = index.index(bytes.len().max(1));
            if let Some(it) = bytes.get_mut(at) {
                *it ^= bits;
            }
        }
        Change::Remove(index, length) => {
            let start = at(index, bytes);
            let end = (start + length).min(bytes.len());
            bytes.drain(start..end);
        }
        Change::Insert(index, inserted) => {
            let start = at(index, bytes);
            bytes.splice(start..start, inserted.iter().copied());
        }
        Change::Copy(from, length, to) => {
            let start = at(from, bytes);
            let copied = bytes[start..(start + length).min(bytes.len())].to_vec();
            let to = at(to, bytes);
            bytes.splice(to..to, copied);
        }
        Change::Truncate(index) => bytes.truncate(at(index, bytes)),
        Change::Cross(file, index) => {
            let other = file.get(files);
            let (start, from) = (at(index, bytes), at(index, other));
            bytes.truncate(start);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// A file of the corpus with one to six changes, or sometimes any bytes.
pub(crate) fn nearly_valid(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed = (any::<Index>(), vec(change(), 1..=6)).prop_map(move |(file, changes)| {
        let mut bytes = file.get(&files).clone();
        for change in &changes {
            apply(&mut bytes, change, &files);
        }
        bytes
    });
    prop_oneof![
        15 => changed,
        1 => vec(any::<u8>(), 0..200),
    ]
}
