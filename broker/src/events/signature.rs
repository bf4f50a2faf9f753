//! Signatures of outgoing messages, as the Standard Webhooks specification has them.
//!
//! A receiver checks `webhook-signature`: HMAC-SHA256 over `id.timestamp.body`. While secrets overlap the header has one
//! signature for each, so that a receiver may know either.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac::{self, HMAC_SHA256};
use secrecy::{ExposeSecret, SecretSlice};

const PREFIX: &str = "whsec_";
/// The sizes that the specification permits, in bytes.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that an endpoint shares with evergreen. Cheap to clone.
#[derive(Clone)]
pub struct SigningSecret(Arc<SecretSlice<u8>>);

/// Why a text is no signing secret. It quotes nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It does not begin with `whsec_`.
    #[error("does not begin with whsec_")]
    Prefix,
    /// The rest is not base64.
    #[error("is not base64 after whsec_, with its padding")]
    Base64,
    /// It is too short or too long.
    #[error("has {0} bytes after whsec_, and 24 to 64 are permitted")]
    Size(usize),
}

impl FromStr for SigningSecret {
    type Err = BadSecret;

    /// `whsec_` and standard base64. The libraries of receivers decode nothing else.
    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret::Prefix)?;
        let bytes = BASE64_STANDARD.decode(encoded);
        let bytes = bytes.map_err(|_| BadSecret::Base64)?;
        if !SIZES.contains(&bytes.len()) {
            return Err(BadSecret::Size(bytes.len()));
        }
        Ok(Self(Arc::new(bytes.into_boxed_slice().into())))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// The value of `webhook-signature` for a message: a signature for each secret, separated by spaces. `timestamp`: the
/// value of `webhook-timestamp`, in seconds since 1970.
pub(crate) fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures = secrets.iter().map(|SigningSecret(secret)| {
        let key = hmac::Key::new(HMAC_SHA256, secret.expose_secret());
        let mut signed = hmac::Context::with_key(&key);
        signed.update(format!("{id}.{timestamp}.").as_bytes());
        signed.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(signed.sign()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret_of(bytes: usize) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(vec![7; bytes]))
    }

    #[test]
    fn signature_is_that_of_the_specification() {
        let secret = SECRET.parse().unwrap();
        assert_eq!(sign(&[secret], ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn each_overlapping_secret_has_a_signature_in_their_order() {
        let secrets = [SECRET, &secret_of(64)].map(|text| text.parse().unwrap());
        let both = sign(&secrets, ID, TIMESTAMP, BODY);
        let second = sign(&secrets[1..], ID, TIMESTAMP, BODY);
        assert_eq!(both, format!("{SIGNATURE} {second}"));
        assert_ne!(second, SIGNATURE);
    }

    #[test]
    fn signature_covers_the_id_the_timestamp_and_the_body() {
        let secret: [SigningSecret; 1] = [SECRET.parse().unwrap()];
        for (id, timestamp, body) in [
            ("msg_other", TIMESTAMP, BODY),
            (ID, TIMESTAMP + 1, BODY),
            (ID, TIMESTAMP, &BODY[1..]),
        ] {
            assert_ne!(sign(&secret, id, timestamp, body), SIGNATURE);
        }
    }

    #[test]
    fn secret_has_its_prefix_base64_and_24_to_64_bytes() {
        let parse = |text: &str| text.parse::<SigningSecret>().map(drop);
        for bytes in [24, 32, 64] {
            assert_eq!(parse(&secret_of(bytes)), Ok(()));
        }
        for bytes in [0, 23, 65] {
            assert_eq!(parse(&secret_of(bytes)), Err(BadSecret::Size(bytes)));
        }
        assert_eq!(parse(&SECRET[PREFIX.len()..]), Err(BadSecret::Prefix));
        assert_eq!(parse("whsec_hunter2!"), Err(BadSecret::Base64));
        // Without its padding, and in the alphabet of URLs.
        let unpadded = secret_of(25);
        assert_eq!(
            parse(unpadded.trim_end_matches('=')),
            Err(BadSecret::Base64)
        );
        let other_alphabet = format!("{PREFIX}{}", "__--".repeat(8));
        assert_eq!(parse(&other_alphabet), Err(BadSecret::Base64));
    }

    #[test]
    fn neither_debug_output_nor_errors_show_a_secret() {
        let secret: SigningSecret = SECRET.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        for text in ["hunter2", "whsec_hunter2!", "whsec_aHVudGVyMg=="] {
            let error = text.parse::<SigningSecret>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&text[6..]), "{shown}");
        }
    }
}
