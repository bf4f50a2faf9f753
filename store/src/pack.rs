//! Tokens in fewer bytes. GHL's are JWTs, whose base64 takes four bytes for three; a store that
//! holds a million of them keeps the three.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Begins what is packed, and no text: it is in no UTF-8.
const PACKED: u8 = 0xff;

/// A token's bytes for the store: packed, where it is base64 in parts between dots, else as it is.
pub(crate) fn pack(token: &str) -> Zeroizing<Vec<u8>> {
    let packed = try_pack(token).filter(|packed| packed.len() < token.len());
    packed.unwrap_or_else(|| Zeroizing::new(token.as_bytes().to_vec()))
}

/// The token again; `None` for what [`pack`] never made.
pub(crate) fn unpack(stored: &[u8]) -> Option<Zeroizing<String>> {
    let Some((&PACKED, mut rest)) = stored.split_first() else {
        let text = std::str::from_utf8(stored).ok()?;
        return Some(Zeroizing::new(text.to_owned()));
    };
    let mut token = Zeroizing::new(String::with_capacity(stored.len() * 4 / 3));
    while let Some((length, bytes)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (part, others) = bytes.split_at_checked(length)?;
        if rest.len() + 1 < stored.len() {
            token.push('.');
        }
        BASE64_URL_SAFE_NO_PAD.encode_string(part, &mut token);
        rest = others;
    }
    rest.is_empty().then_some(token)
}

/// Each part as its length and its bytes. The decoder takes only what the encoder would write, so
/// nothing is lost.
fn try_pack(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut packed = Zeroizing::new(Vec::with_capacity(token.len()));
    packed.push(PACKED);
    for part in token.split('.') {
        let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(part).ok()?);
        let length = u16::try_from(bytes.len()).ok()?;
        packed.extend(length.to_be_bytes());
        packed.extend_from_slice(&bytes);
    }
    Some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(token: &str) -> usize {
        let packed = pack(token);
        assert_eq!(unpack(&packed).unwrap().as_str(), token);
        packed.len()
    }

    #[test]
    fn a_jwt_takes_a_quarter_less() {
        let part = BASE64_URL_SAFE_NO_PAD.encode([b'{'; 600]);
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{part}.c2lnbmF0dXJl");
        assert!(round_trip(&jwt) * 4 < jwt.len() * 3 + 40);
    }

    #[test]
    fn whatever_it_is_it_comes_back_to_the_letter() {
        let long = "A".repeat(100_000);
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
        ];
        for token in strange {
            round_trip(token);
        }
    }

    #[test]
    fn what_was_stored_as_text_is_read_and_what_is_damaged_is_not() {
        assert_eq!(unpack(b"plain").unwrap().as_str(), "plain");
        for damaged in [&[0xfe][..], &[PACKED, 0], &[PACKED, 0, 2, b'a']] {
            assert!(unpack(damaged).is_none(), "{damaged:?}");
        }
    }
}
