//! Compression of tokens and scopes.
//!
//! GHL's tokens are JWTs. Base64 takes four bytes for three, and most claims and scopes are the same in all
//! tokens. A store with a million installations saves most of that space.
//!
//! Compression before encryption can leak content through the length. Here each token is compressed alone,
//! and no attacker chooses any of its content, so the length reveals no more than the token's own length.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lz4_flex::block::{
    compress_into_with_dict, decompress_into_with_dict, get_maximum_output_size,
};
use zeroize::Zeroizing;

/// First byte of a value compressed by LZ4. No UTF-8 text begins with it.
const COMPRESSED: u8 = 0xfe;
/// First byte of a value that is base64-decoded but not compressed. Earlier builds wrote it.
const BASE64_DECODED: u8 = 0xff;

/// Text that GHL's tokens have in common. Stored values were compressed with it, so never change it. A new
/// dictionary needs a new first byte.
const DICTIONARY: &[u8] = include_bytes!("compress/dictionary.txt");

/// A token's stored bytes. A token of base64 parts between dots is compressed; any other is stored as it is.
pub(crate) fn compress_token(token: &str) -> Zeroizing<Vec<u8>> {
    let compressed = split(token).and_then(|parts| compress_lz4(&parts));
    let compressed = compressed.filter(|compressed| compressed.len() < token.len());
    compressed.unwrap_or_else(|| Zeroizing::new(token.as_bytes().to_vec()))
}

/// Reverses [`compress_token`]; `None` for bytes that it never produces.
pub(crate) fn decompress_token(stored: &[u8]) -> Option<Zeroizing<String>> {
    match stored.split_first() {
        Some((&COMPRESSED, rest)) => join(&decompress_lz4(rest)?),
        Some((&BASE64_DECODED, parts)) => join(parts),
        _ => {
            let text = std::str::from_utf8(stored).ok()?;
            Some(Zeroizing::new(text.to_owned()))
        }
    }
}

/// Compresses a text that is not secret, such as scopes.
pub(crate) fn compress_text(text: &str) -> Vec<u8> {
    match compress_lz4(text.as_bytes()) {
        Some(compressed) if compressed.len() < text.len() => compressed.to_vec(),
        Some(_) | None => text.as_bytes().to_vec(),
    }
}

/// Reverses [`compress_text`]; `None` for bytes that it never produces.
pub(crate) fn decompress_text(stored: &[u8]) -> Option<String> {
    let text = match stored.split_first() {
        Some((&COMPRESSED, rest)) => decompress_lz4(rest)?.to_vec(),
        _ => stored.to_vec(),
    };
    String::from_utf8(text).ok()
}

/// First byte, length as u16, then one LZ4 block. `None` above 64 KiB.
fn compress_lz4(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let length = u16::try_from(bytes.len()).ok()?;
    let mut compressed = Zeroizing::new(vec![COMPRESSED]);
    compressed.extend(length.to_be_bytes());
    let start = compressed.len();
    compressed.resize(start + get_maximum_output_size(bytes.len()), 0);
    let length = compress_into_with_dict(bytes, &mut compressed[start..], DICTIONARY).ok()?;
    compressed.truncate(start + length);
    Some(compressed)
}

fn decompress_lz4(stored: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, block) = stored.split_first_chunk()?;
    let mut bytes = Zeroizing::new(vec![0; usize::from(u16::from_be_bytes(*length))]);
    let length = decompress_into_with_dict(block, &mut bytes, DICTIONARY).ok()?;
    (length == bytes.len()).then_some(bytes)
}

/// Each part as its length and its decoded bytes. The decoder accepts canonical base64 only, so encoding
/// again gives the same text.
fn split(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = Zeroizing::new(Vec::with_capacity(token.len()));
    for part in token.split('.') {
        let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(part).ok()?);
        let length = u16::try_from(bytes.len()).ok()?;
        parts.extend(length.to_be_bytes());
        parts.extend_from_slice(&bytes);
    }
    Some(parts)
}

fn join(parts: &[u8]) -> Option<Zeroizing<String>> {
    let mut token = Zeroizing::new(String::with_capacity(parts.len() * 4 / 3));
    let mut rest = parts;
    while let Some((length, bytes)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (part, others) = bytes.split_at_checked(length)?;
        if rest.len() < parts.len() {
            token.push('.');
        }
        BASE64_URL_SAFE_NO_PAD.encode_string(part, &mut token);
        rest = others;
    }
    rest.is_empty().then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(token: &str) -> usize {
        let compressed = compress_token(token);
        assert_eq!(decompress_token(&compressed).unwrap().as_str(), token);
        compressed.len()
    }

    fn jwt(claims: &str, signature: &[u8]) -> String {
        let [header, claims, signature] = [
            br#"{"alg":"RS256","typ":"JWT"}"#,
            claims.as_bytes(),
            signature,
        ]
        .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{claims}.{signature}")
    }

    #[test]
    fn jwt_compresses_to_its_distinct_claims_and_signature() {
        let signature = crate::random::bytes::<256>();
        let claims = r#"{"authClass":"Location","authClassId":"ve9EPM428h8vShlRW1KT","source":"INTEGRATION","sourceId":"65c0a7b1d5e6f7a8b9c0d1e2-lsf0abcd","channel":"OAUTH","primaryAuthClassId":"ve9EPM428h8vShlRW1KT","oauthMeta":{"scopes":["contacts.readonly","contacts.write","locations.readonly","products.readonly"],"client":"65c0a7b1d5e6f7a8b9c0d1e2"},"iat":1700000000.123,"exp":1700086399.123}"#;
        let token = jwt(claims, &signature);
        let compressed = round_trip(&token);
        assert!(
            compressed < 256 + 220,
            "{compressed} bytes of {}",
            token.len()
        );
    }

    #[test]
    fn any_text_round_trips() {
        let (long, longer) = ("A".repeat(80_000), "A".repeat(100_000));
        let strange = [
            "",
            ".",
            "..",
            "a",
            "pit-12345678",
            "ab.cd",
            "a.b.c",
            "QUJD",
            "QUJE.QUJF",
            "QUJDRA==",
            "QUJDRB",
            "QUJD.",
            ".QUJD",
            "QUJDQUJDQUJD..QUJD",
            "no base64 at all",
            "ünïcödé",
            &long,
            &longer,
        ];
        for token in strange {
            round_trip(token);
        }
    }

    #[test]
    fn scopes_compress_by_half() {
        let scopes = "products.readonly products.write contacts.readonly contacts.write \
                      medias.readonly medias.write locations.readonly";
        let compressed = compress_text(scopes);
        assert_eq!(decompress_text(&compressed).as_deref(), Some(scopes));
        assert!(
            compressed.len() * 2 < scopes.len() + 2,
            "{}",
            compressed.len()
        );
        for text in ["", "a", "ünïcödé", &"A".repeat(70_000)] {
            assert_eq!(decompress_text(&compress_text(text)).as_deref(), Some(text));
        }
        assert_eq!(decompress_text(&[0xff]), None);
    }

    #[test]
    fn values_of_earlier_builds_are_read() {
        assert_eq!(decompress_token(b"plain").unwrap().as_str(), "plain");
        let compressed = [BASE64_DECODED, 0, 3, b'A', b'B', b'C', 0, 1, b'A'];
        assert_eq!(decompress_token(&compressed).unwrap().as_str(), "QUJD.QQ");
    }

    #[test]
    fn dictionary_is_unchanged() {
        let digest = ring::digest::digest(&ring::digest::SHA256, DICTIONARY);
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(digest),
            "Xl8bVmqcZtAN-s6w4wn7RI_8LuQd0tyM3S6KTPCrZ2g"
        );
    }

    #[test]
    fn damaged_values_are_rejected() {
        for damaged in [
            &[0xfd][..],
            &[COMPRESSED],
            &[COMPRESSED, 0xff, 0xff],
            &[BASE64_DECODED, 0],
            &[BASE64_DECODED, 0, 2, b'a'],
        ] {
            assert!(decompress_token(damaged).is_none(), "{damaged:?}");
        }
        let compressed = compress_token(&jwt(r#"{"authClass":"Location"}"#, &[7; 32]));
        for length in 1..compressed.len() {
            assert!(
                decompress_token(&compressed[..length]).is_none(),
                "{length} bytes"
            );
        }
    }
}
