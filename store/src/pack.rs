//! Tokens and scopes in fewer bytes. GHL's tokens are JWTs, whose base64 takes four bytes for three, and whose claims
//! and scopes are much the same in all of them; a store that holds a million keeps what differs.
//!
//! A token reaches its seal alone, with nothing in it that a stranger chose: its length tells no
//! more than that of the token itself.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lz4_flex::block::{
    compress_into_with_dict, decompress_into_with_dict, get_maximum_output_size,
};
use zeroize::Zeroizing;

/// Begins what is packed and compressed: a byte that no text begins with.
const COMPRESSED: u8 = 0xfe;
/// Begins what is only packed, as earlier builds did.
const PACKED: u8 = 0xff;

/// What GHL's tokens have in common. What is in the store was made with it: never change it, add
/// another one with a beginning of its own.
const DICTIONARY: &[u8] = include_bytes!("pack/dictionary.txt");

/// A token's bytes for the store: smaller, where it is base64 in parts between dots, else as it is.
pub(crate) fn pack(token: &str) -> Zeroizing<Vec<u8>> {
    let packed = split(token).and_then(|parts| compress(&parts));
    let packed = packed.filter(|packed| packed.len() < token.len());
    packed.unwrap_or_else(|| Zeroizing::new(token.as_bytes().to_vec()))
}

/// The token again; `None` for what [`pack`] never made.
pub(crate) fn unpack(stored: &[u8]) -> Option<Zeroizing<String>> {
    match stored.split_first() {
        Some((&COMPRESSED, rest)) => join(&decompress(rest)?),
        Some((&PACKED, parts)) => join(parts),
        _ => {
            let text = std::str::from_utf8(stored).ok()?;
            Some(Zeroizing::new(text.to_owned()))
        }
    }
}

/// A text that is no secret, like scopes.
pub(crate) fn pack_text(text: &str) -> Vec<u8> {
    match compress(text.as_bytes()) {
        Some(packed) if packed.len() < text.len() => packed.to_vec(),
        Some(_) | None => text.as_bytes().to_vec(),
    }
}

/// The text again; `None` for what [`pack_text`] never made.
pub(crate) fn unpack_text(stored: &[u8]) -> Option<String> {
    let text = match stored.split_first() {
        Some((&COMPRESSED, rest)) => decompress(rest)?.to_vec(),
        _ => stored.to_vec(),
    };
    String::from_utf8(text).ok()
}

/// Beginning, length, and a block of LZ4. `None` above 64 KiB.
fn compress(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let length = u16::try_from(bytes.len()).ok()?;
    let mut packed = Zeroizing::new(vec![COMPRESSED]);
    packed.extend(length.to_be_bytes());
    let start = packed.len();
    packed.resize(start + get_maximum_output_size(bytes.len()), 0);
    let length = compress_into_with_dict(bytes, &mut packed[start..], DICTIONARY).ok()?;
    packed.truncate(start + length);
    Some(packed)
}

fn decompress(stored: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, block) = stored.split_first_chunk()?;
    let mut bytes = Zeroizing::new(vec![0; usize::from(u16::from_be_bytes(*length))]);
    let length = decompress_into_with_dict(block, &mut bytes, DICTIONARY).ok()?;
    (length == bytes.len()).then_some(bytes)
}

/// Each part as its length and its bytes. The decoder takes only what the encoder would write, so
/// nothing is lost.
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
        let packed = pack(token);
        assert_eq!(unpack(&packed).unwrap().as_str(), token);
        packed.len()
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
    fn a_jwt_keeps_little_more_than_its_names_and_its_signature() {
        let signature = crate::random::bytes::<256>();
        let claims = r#"{"authClass":"Location","authClassId":"ve9EPM428h8vShlRW1KT","source":"INTEGRATION","sourceId":"65c0a7b1d5e6f7a8b9c0d1e2-lsf0abcd","channel":"OAUTH","primaryAuthClassId":"ve9EPM428h8vShlRW1KT","oauthMeta":{"scopes":["contacts.readonly","contacts.write","locations.readonly","products.readonly"],"client":"65c0a7b1d5e6f7a8b9c0d1e2"},"iat":1700000000.123,"exp":1700086399.123}"#;
        let token = jwt(claims, &signature);
        let packed = round_trip(&token);
        assert!(packed < 256 + 220, "{packed} bytes of {}", token.len());
    }

    #[test]
    fn whatever_it_is_it_comes_back_to_the_letter() {
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
    fn scopes_take_half() {
        let scopes = "products.readonly products.write contacts.readonly contacts.write \
                      medias.readonly medias.write locations.readonly";
        let packed = pack_text(scopes);
        assert_eq!(unpack_text(&packed).as_deref(), Some(scopes));
        assert!(packed.len() * 2 < scopes.len() + 2, "{}", packed.len());
        for text in ["", "a", "ünïcödé", &"A".repeat(70_000)] {
            assert_eq!(unpack_text(&pack_text(text)).as_deref(), Some(text));
        }
        assert_eq!(unpack_text(&[0xff]), None);
    }

    #[test]
    fn what_earlier_builds_stored_is_read() {
        assert_eq!(unpack(b"plain").unwrap().as_str(), "plain");
        let packed = [PACKED, 0, 3, b'A', b'B', b'C', 0, 1, b'A'];
        assert_eq!(unpack(&packed).unwrap().as_str(), "QUJD.QQ");
    }

    #[test]
    fn the_dictionary_is_the_one_that_is_in_the_stores() {
        let digest = ring::digest::digest(&ring::digest::SHA256, DICTIONARY);
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(digest),
            "Xl8bVmqcZtAN-s6w4wn7RI_8LuQd0tyM3S6KTPCrZ2g"
        );
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        for damaged in [
            &[0xfd][..],
            &[COMPRESSED],
            &[COMPRESSED, 0xff, 0xff],
            &[PACKED, 0],
            &[PACKED, 0, 2, b'a'],
        ] {
            assert!(unpack(damaged).is_none(), "{damaged:?}");
        }
        let packed = pack(&jwt(r#"{"authClass":"Location"}"#, &[7; 32]));
        for length in 1..packed.len() {
            assert!(unpack(&packed[..length]).is_none(), "{length} bytes");
        }
    }
}
