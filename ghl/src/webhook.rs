//! GHL's webhooks: their signatures and their events.

mod details;

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::HeaderMap;
use ring::digest;
use ring::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value};
use spki::SubjectPublicKeyInfoRef;

/// GHL's current Ed25519 key, from GHL's documents. A setting can replace it, because GHL rotates its keys.
pub const ED25519_KEY: &str = include_str!("../keys/webhook-ed25519.pem");
/// GHL's RSA key for the older signature header, from GHL's documents. It is used only if a setting asks for it.
pub const RSA_KEY: &str = include_str!("../keys/webhook-rsa.pem");

/// GHL's have 36 characters.
const MAX_ID_BYTES: usize = 128;

const ED25519_HEADER: &str = "x-ghl-signature";
const RSA_HEADER: &str = "x-wh-signature";

/// The text is not a PEM public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a public key in PEM (`-----BEGIN PUBLIC KEY-----`)")]
pub struct BadKey;

/// Why a webhook is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The request has no signature header.
    #[error("the request carries neither `x-ghl-signature` nor `x-wh-signature`")]
    Missing,
    /// The signature is malformed, or is of another body or key.
    #[error("the signature does not match the body")]
    Wrong,
}

/// Whether the request has a signature that can be read. Only the broker has the keys that tell whose it is.
#[must_use]
pub fn is_signed(headers: &HeaderMap) -> bool {
    let signature = headers
        .get(ED25519_HEADER)
        .or_else(|| headers.get(RSA_HEADER));
    let signature = signature.and_then(|text| BASE64_STANDARD.decode(text.as_bytes()).ok());
    // Ed25519, or RSA with at least 2048 bits.
    signature.is_some_and(|it| it.len() == 64 || (256..=1024).contains(&it.len()))
}

/// Checks the signatures of webhooks.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// Several while GHL rotates its key.
    ed25519: Vec<UnparsedPublicKey<Vec<u8>>>,
    /// Empty if the older header is not accepted.
    rsa: Vec<UnparsedPublicKey<Vec<u8>>>,
}

/// A signature, and the keys that may have made it.
#[derive(Debug)]
pub struct Signature<'v> {
    bytes: Vec<u8>,
    keys: &'v [UnparsedPublicKey<Vec<u8>>],
}

impl Verifier {
    /// A verifier. Each text has one or more PEM public keys. Without `rsa_pem` the older header is not accepted.
    ///
    /// # Errors
    /// If a text has no PEM public key, or one that cannot be read.
    pub fn new(ed25519_pem: &str, rsa_pem: Option<&str>) -> Result<Self, BadKey> {
        let rsa = match rsa_pem {
            Some(pem) => keys(&RSA_PKCS1_2048_8192_SHA256, pem)?,
            None => Vec::new(),
        };
        Ok(Self {
            ed25519: keys(&ED25519, ed25519_pem)?,
            rsa,
        })
    }

    /// The signature of a request, before its body is read. If the newer header is present, the older one is ignored.
    /// Otherwise an attacker could choose the weaker check.
    ///
    /// # Errors
    /// [`BadSignature::Missing`] without an accepted header, [`BadSignature::Wrong`] if it is not Base64.
    pub fn signature(&self, headers: &HeaderMap) -> Result<Signature<'_>, BadSignature> {
        let older = headers.get(RSA_HEADER).filter(|_| !self.rsa.is_empty());
        let (keys, text) = match (headers.get(ED25519_HEADER), older) {
            (Some(text), _) => (&self.ed25519, text),
            (None, Some(text)) => (&self.rsa, text),
            (None, None) => return Err(BadSignature::Missing),
        };
        let bytes = BASE64_STANDARD.decode(text.as_bytes());
        Ok(Signature {
            bytes: bytes.map_err(|_| BadSignature::Wrong)?,
            keys,
        })
    }
}

/// The signatures of a request, for the verifiers of several apps. One verifier may accept a header that another one does
/// not.
///
/// # Errors
/// The last reason, if no verifier accepts a header of the request.
pub fn signatures<'v, T>(
    verifiers: impl IntoIterator<Item = (T, &'v Verifier)>,
    headers: &HeaderMap,
) -> Result<Vec<(T, Signature<'v>)>, BadSignature> {
    let (mut accepted, mut refused) = (Vec::new(), BadSignature::Missing);
    for (whose, verifier) in verifiers {
        match verifier.signature(headers) {
            Ok(signature) => accepted.push((whose, signature)),
            Err(error) => refused = error,
        }
    }
    match accepted.is_empty() {
        true => Err(refused),
        false => Ok(accepted),
    }
}

impl Signature<'_> {
    /// Checks the signature of the raw body.
    ///
    /// # Errors
    /// [`BadSignature::Wrong`] if no key made it for this body.
    pub fn verify(&self, body: &[u8]) -> Result<(), BadSignature> {
        let mut keys = self.keys.iter();
        let is_right = keys.any(|key| key.verify(body, &self.bytes).is_ok());
        is_right.then_some(()).ok_or(BadSignature::Wrong)
    }
}

fn keys(
    algorithm: &'static dyn VerificationAlgorithm,
    text: &str,
) -> Result<Vec<UnparsedPublicKey<Vec<u8>>>, BadKey> {
    const END: &str = "-----END PUBLIC KEY-----";
    let pems = text
        .split_inclusive(END)
        .filter(|pem| !pem.trim().is_empty());
    let keys = pems.map(|pem| Ok(UnparsedPublicKey::new(algorithm, key_bits(pem)?)));
    let keys = keys.collect::<Result<Vec<_>, BadKey>>()?;
    if keys.is_empty() {
        return Err(BadKey);
    }
    Ok(keys)
}

fn key_bits(pem: &str) -> Result<Vec<u8>, BadKey> {
    let (_, der) = pem_rfc7468::decode_vec(pem.trim().as_bytes()).map_err(|_| BadKey)?;
    let info = SubjectPublicKeyInfoRef::try_from(der.as_slice()).map_err(|_| BadKey)?;
    Ok(info.subject_public_key.as_bytes().ok_or(BadKey)?.to_vec())
}

/// The fields of a webhook that evergreen uses. A field of another shape counts as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The type, such as `INSTALL` or `UNINSTALL`. Some of GHL's webhooks have none.
    pub kind: Option<String>,
    /// The app's id: the part of the client id before its `-`. GHL signs for all apps with the same key.
    pub app_id: Option<String>,
    /// The location, absent for an agency.
    pub location_id: Option<String>,
    /// The company.
    pub company_id: Option<String>,
    /// The name that a webhook shares with its repeats: GHL's `webhookId`, or else the hash of the body. 1 to 128
    /// characters of visible ASCII.
    pub identity: String,
    /// The time of the event in milliseconds since the Unix epoch. `None` if GHL does not name a readable one.
    pub at_ms: Option<i64>,
    /// Its other facts, such as `companyName` and `planId`: each of 1 to 256 bytes.
    pub details: BTreeMap<String, String>,
}

impl Event {
    /// Reads the body of a webhook. `None` if it is not a JSON object.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |name: &str| match fields.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let hash = || {
            let digest = digest::digest(&digest::SHA256, body);
            format!("sha256-{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
        };
        Some(Self {
            kind: text("type"),
            app_id: text("appId"),
            location_id: text("locationId"),
            company_id: text("companyId"),
            identity: text("webhookId")
                .filter(|it| is_id(it))
                .unwrap_or_else(hash),
            at_ms: fields.get("timestamp").and_then(time_ms),
            details: details::read(&fields),
        })
    }
}

/// Whether a `webhookId` can be a name in the store. Webhooks without one must not share the empty one.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Milliseconds since the Unix epoch, from RFC 3339 with any offset, or a number of seconds or milliseconds.
pub(crate) fn time_ms(value: &Value) -> Option<i64> {
    /// A number of seconds up to the year 5138 is smaller, a number of milliseconds since 1973 is larger.
    const LARGEST_SECONDS: i64 = 100_000_000_000;
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match number {
        Some(seconds) if (0..LARGEST_SECONDS).contains(&seconds) => Some(seconds * 1000),
        Some(millis) => Some(millis).filter(|millis| *millis > 0),
        None => rfc3339_ms(value.as_str()?),
    }
}

fn rfc3339_ms(text: &str) -> Option<i64> {
    let (local, offset_minutes) = match text.len().checked_sub(6) {
        Some(at) if text.is_char_boundary(at) && text[at..].starts_with(['+', '-']) => {
            let (hours, minutes) = text[at + 1..].split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            let sign = if text[at..].starts_with('-') { -1 } else { 1 };
            (&text[..at], sign * minutes)
        }
        Some(_) | None => (text, 0),
    };
    let at = humantime::parse_rfc3339_weak(local).ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    let millis = i64::try_from(since.as_millis()).ok()?;
    Some(millis - offset_minutes * 60_000).filter(|millis| *millis >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    #[test]
    fn app_that_accepts_no_older_signature_does_not_refuse_it_for_the_others() {
        let newer_only = Verifier::new(ED25519_KEY, None).unwrap();
        let both = Verifier::new(ED25519_KEY, Some(RSA_KEY)).unwrap();
        let older: HeaderMap = [(
            RSA_HEADER.parse().unwrap(),
            BASE64_STANDARD.encode([7; 256]).parse().unwrap(),
        )]
        .into_iter()
        .collect();
        let apps = [("newer only", &newer_only), ("both", &both)];
        let accepted = signatures(apps, &older).unwrap();
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0].0, "both");
        let refused = signatures([("newer only", &newer_only)], &older);
        assert_eq!(refused.unwrap_err(), BadSignature::Missing);
    }

    fn verifier_and_key() -> (Verifier, Ed25519KeyPair) {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let mut verifier = Verifier::new(ED25519_KEY, None).unwrap();
        let public = key.public_key().as_ref().to_vec();
        verifier
            .ed25519
            .push(UnparsedPublicKey::new(&ED25519, public));
        (verifier, key)
    }

    fn check(verifier: &Verifier, headers: &HeaderMap, body: &[u8]) -> Result<(), BadSignature> {
        verifier.signature(headers)?.verify(body)
    }

    #[test]
    fn signature_of_any_key_covers_the_raw_body() {
        let (verifier, key) = verifier_and_key();
        let body = br#"{"type":"UNINSTALL"}"#;
        let signature = BASE64_STANDARD.encode(key.sign(body));
        let mut headers = HeaderMap::new();
        assert_eq!(check(&verifier, &headers, body), Err(BadSignature::Missing));
        headers.insert(ED25519_HEADER, signature.parse().unwrap());
        assert_eq!(check(&verifier, &headers, body), Ok(()));
        let other = br#"{"type":"INSTALL"}"#;
        assert_eq!(check(&verifier, &headers, other), Err(BadSignature::Wrong));
    }

    #[test]
    fn older_header_is_off_and_never_replaces_a_wrong_newer_one() {
        let (mut verifier, key) = verifier_and_key();
        let signature = BASE64_STANDARD.encode(key.sign(b"x"));
        let mut headers = HeaderMap::new();
        headers.insert(RSA_HEADER, signature.parse().unwrap());
        assert_eq!(check(&verifier, &headers, b"x"), Err(BadSignature::Missing));
        verifier.rsa = keys(&RSA_PKCS1_2048_8192_SHA256, RSA_KEY).unwrap();
        assert_eq!(check(&verifier, &headers, b"x"), Err(BadSignature::Wrong));
        headers.insert(ED25519_HEADER, "AAAA".parse().unwrap());
        assert_eq!(check(&verifier, &headers, b"x"), Err(BadSignature::Wrong));
    }

    #[test]
    fn several_keys_are_read_and_a_malformed_one_is_refused() {
        let both = format!("{ED25519_KEY}\n{ED25519_KEY}");
        assert_eq!(Verifier::new(&both, None).unwrap().ed25519.len(), 2);
        for wrong in ["nonsense", "", &format!("{ED25519_KEY}\nnonsense")] {
            assert_eq!(Verifier::new(wrong, None).unwrap_err(), BadKey, "{wrong}");
        }
    }

    #[test]
    fn events_are_read_in_every_shape() {
        let event =
            Event::read(br#"{"type":"UNINSTALL","appId":"a","locationId":"L","webhookId":7}"#);
        let event = event.unwrap();
        assert_eq!(
            (event.kind.as_deref(), event.identity.as_str()),
            (Some("UNINSTALL"), "7")
        );
        let unnamed = Event::read(br#"{"id":"679b","locationId":{},"type":[]}"#).unwrap();
        assert_eq!((&unnamed.kind, &unnamed.location_id), (&None, &None));
        assert!(unnamed.identity.starts_with("sha256-"));
        for odd in ["", "a b", &"w".repeat(129)] {
            let body = format!(r#"{{"webhookId":"{odd}"}}"#);
            let event = Event::read(body.as_bytes()).unwrap();
            assert!(event.identity.starts_with("sha256-"), "{odd}");
        }
        for body in ["[]", "7", "no json", ""] {
            assert_eq!(Event::read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        let expected = Some(1_739_175_965_000);
        for text in [
            r#""2025-02-10T08:26:05Z""#,
            r#""2025-02-10T08:26:05.000Z""#,
            r#""2025-02-10T03:26:05-05:00""#,
            r#""2025-02-10T13:56:05+05:30""#,
            "1739175965000",
            "1739175965",
            r#""1739175965000""#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(time_ms(&value), expected, "{text}");
        }
        for text in [
            r#""yesterday""#,
            r#""1970-01-01T00:00:00+05:30""#,
            "-1",
            "true",
            "{}",
            r#""§§§§§§""#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(time_ms(&value), None, "{text}");
        }
    }
}
