//! Reads structured input from the bytes of a corpus file: lines, headers, and fields.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use store::record::Fields;

/// The text of an input. Invalid UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The first `N` lines without their ends, and the rest.
pub(crate) fn lines<const N: usize>(bytes: &[u8]) -> ([&[u8]; N], &[u8]) {
    let mut rest = bytes;
    let lines = std::array::from_fn(|_| {
        let (line, after) = split_at_byte(rest, b'\n');
        rest = after;
        line
    });
    (lines, rest)
}

/// The text before the first empty line, and the text after it.
pub(crate) fn head_and_body(bytes: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = bytes.strip_prefix(b"\n") {
        return (b"", body);
    }
    match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, b""),
    }
}

/// Headers, one a line, such as `name: value`. As over HTTP, a header may have several lines, and bytes above ASCII.
/// Other lines are skipped.
pub(crate) fn headers(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let (name, value) = split_at_byte(line, b':');
        let name = HeaderName::from_bytes(name.trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The fields of a record, one a line, such as `name=value`. A value `hex:00ff` has any bytes.
pub(crate) fn fields(bytes: &[u8]) -> Fields {
    let lines = bytes.split(|byte| *byte == b'\n');
    let fields = lines.filter(|line| !line.is_empty()).map(|line| {
        let (name, value) = split_at_byte(line, b'=');
        let hex = value.strip_prefix(b"hex:").and_then(from_hex);
        (
            text(name).into_owned(),
            hex.unwrap_or_else(|| value.to_vec()),
        )
    });
    fields.collect()
}

/// Bytes as hex digits, or the bytes themselves if they are none.
pub(crate) fn maybe_hex(bytes: &[u8]) -> Vec<u8> {
    from_hex(bytes.trim_ascii()).unwrap_or_else(|| bytes.to_vec())
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}

fn split_at_byte(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, b""),
    }
}

/// Checks a text that is logged or shown: one line, without control characters, of a bounded length.
#[track_caller]
pub(crate) fn assert_showable(text: &str, max_chars: usize) {
    assert!(
        !text.contains(char::is_control),
        "control characters in {text:?}"
    );
    let length = text.chars().count();
    assert!(length <= max_chars, "{length} characters: {text:?}");
}
