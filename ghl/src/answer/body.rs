//! From the bytes of a body to text: compression and byte order marks are undone.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use secrecy::zeroize::Zeroizing;

use super::Unintelligible;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const UTF8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// As far as a body may grow when it is unpacked: as large as one that arrives plain may be.
const LARGEST: u64 = 1024 * 1024;

/// The body's text.
///
/// # Errors
/// When there is none.
pub(super) fn text(body: &[u8]) -> Result<Zeroizing<String>, Unintelligible> {
    let text = Zeroizing::new(decode(&unzip(body)?));
    if text.trim().is_empty() {
        return Err(Unintelligible::Empty);
    }
    Ok(text)
}

/// As [`text`], where a body that cannot be unpacked is taken as it is: an error's body, which its
/// reader does without.
pub(crate) fn plain(body: &[u8]) -> String {
    decode(&unzip(body).unwrap_or_else(|_| Zeroizing::new(body.to_vec())))
}

/// Undoes gzip that nobody asked for. The header that announces it may be missing, so the first
/// bytes decide: no JSON begins with them.
fn unzip(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unintelligible> {
    if !body.starts_with(&GZIP) {
        return Ok(Zeroizing::new(body.to_vec()));
    }
    let mut unpacked = Zeroizing::new(Vec::new());
    let mut bounded = MultiGzDecoder::new(body).take(LARGEST + 1);
    bounded
        .read_to_end(&mut unpacked)
        .map_err(|_| Unintelligible::Compressed)?;
    if unpacked.len() as u64 > LARGEST {
        return Err(Unintelligible::TooLarge(LARGEST));
    }
    Ok(unpacked)
}

/// Text in UTF-8, or in UTF-16 where its byte order mark says so. What is neither is replaced: a
/// company's name in another encoding must not cost its tokens, which are ASCII.
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
