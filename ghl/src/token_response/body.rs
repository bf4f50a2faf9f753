//! Decodes a body to text: removes gzip and byte order marks.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use secrecy::zeroize::Zeroizing;

use super::ParseError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const UTF8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The largest decompressed body. It equals the limit for an uncompressed body.
const MAX_BYTES: u64 = 1024 * 1024;

/// The text of a body.
///
/// # Errors
/// If the body cannot be decompressed, or if the text is empty.
pub(super) fn text(body: &[u8]) -> Result<Zeroizing<String>, ParseError> {
    let text = Zeroizing::new(decode(&decompress(body)?));
    if text.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    Ok(text)
}

/// The text of an error body. If it cannot be decompressed, the bytes are decoded as they are.
pub(crate) fn lossy_text(body: &[u8]) -> String {
    decode(&decompress(body).unwrap_or_else(|_| Zeroizing::new(body.to_vec())))
}

/// Decompresses gzip that was not requested. The `Content-Encoding` header may be missing, so the first bytes
/// decide. No JSON begins with them.
fn decompress(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, ParseError> {
    if !body.starts_with(&GZIP) {
        return Ok(Zeroizing::new(body.to_vec()));
    }
    let mut unpacked = Zeroizing::new(Vec::new());
    let mut bounded = MultiGzDecoder::new(body).take(MAX_BYTES + 1);
    bounded
        .read_to_end(&mut unpacked)
        .map_err(|_| ParseError::Compressed)?;
    if unpacked.len() as u64 > MAX_BYTES {
        return Err(ParseError::TooLarge(MAX_BYTES));
    }
    Ok(unpacked)
}

/// Decodes UTF-8, or UTF-16 with a byte order mark. Invalid bytes are replaced: a company name in another
/// encoding must not lose the tokens, which are ASCII.
fn decode(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => {
            let text = bytes.strip_prefix(&UTF8_MARK).unwrap_or(bytes);
            String::from_utf8_lossy(text).into_owned()
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
