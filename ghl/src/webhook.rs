//! GHL's webhooks: their signatures and their events.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use spki::SubjectPublicKeyInfoRef;

/// GHL's current Ed25519 key, from GHL's documents. A setting can replace it, because GHL rotates its keys.
pub const ED25519_KEY: &str = include_str!("../keys/webhook-ed25519.pem");
/// GHL's current RSA key for the older signature header. A setting can replace it.
pub const RSA_KEY: &str = include_str!("../keys/webhook-rsa.pem");

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

/// Checks the signatures of webhooks.
#[derive(Debug, Clone)]
pub struct Verifier {
    ed25519: UnparsedPublicKey<Vec<u8>>,
    rsa: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier {
    /// A verifier for two PEM public keys.
    ///
    /// # Errors
    /// If one of them is not a PEM public key.
    pub fn new(ed25519_pem: &str, rsa_pem: &str) -> Result<Self, BadKey> {
        Ok(Self {
            ed25519: UnparsedPublicKey::new(&ED25519, key_bits(ed25519_pem)?),
            rsa: UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key_bits(rsa_pem)?),
        })
    }

    /// Checks the signature of the raw body. If the newer header is present, the older one is ignored.
    /// Otherwise an attacker could choose the weaker check.
    ///
    /// # Errors
    /// [`BadSignature::Missing`] without a header, [`BadSignature::Wrong`] if the signature does not match.
    pub fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), BadSignature> {
        let (key, signature) = match (headers.get(ED25519_HEADER), headers.get(RSA_HEADER)) {
            (Some(signature), _) => (&self.ed25519, signature),
            (None, Some(signature)) => (&self.rsa, signature),
            (None, None) => return Err(BadSignature::Missing),
        };
        let signature = BASE64_STANDARD
            .decode(signature.as_bytes())
            .map_err(|_| BadSignature::Wrong)?;
        key.verify(body, &signature)
            .map_err(|_| BadSignature::Wrong)
    }
}

fn key_bits(pem: &str) -> Result<Vec<u8>, BadKey> {
    let (_, der) = pem_rfc7468::decode_vec(pem.trim().as_bytes()).map_err(|_| BadKey)?;
    let info = SubjectPublicKeyInfoRef::try_from(der.as_slice()).map_err(|_| BadKey)?;
    Ok(info.subject_public_key.as_bytes().ok_or(BadKey)?.to_vec())
}

/// The fields of a webhook that evergreen uses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The type, such as `INSTALL` or `UNINSTALL`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The app's id: the part of the client id before its `-`. GHL signs for all apps with the same key.
    #[serde(default)]
    pub app_id: Option<String>,
    /// The location, absent for an agency.
    #[serde(default)]
    pub location_id: Option<String>,
    /// The company.
    #[serde(default)]
    pub company_id: Option<String>,
    /// The id that repeats of this webhook share.
    #[serde(default)]
    pub webhook_id: Option<String>,
    /// The time of the event in RFC 3339.
    #[serde(default)]
    pub timestamp: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    fn verifier_and_key() -> (Verifier, Ed25519KeyPair) {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let mut verifier = Verifier::new(ED25519_KEY, RSA_KEY).unwrap();
        verifier.ed25519 = UnparsedPublicKey::new(&ED25519, key.public_key().as_ref().to_vec());
        (verifier, key)
    }

    #[test]
    fn signature_covers_the_raw_body() {
        let (verifier, key) = verifier_and_key();
        let body = br#"{"type":"UNINSTALL"}"#;
        let signature = BASE64_STANDARD.encode(key.sign(body));
        let mut headers = HeaderMap::new();
        assert_eq!(verifier.check(&headers, body), Err(BadSignature::Missing));
        headers.insert(ED25519_HEADER, signature.parse().unwrap());
        assert_eq!(verifier.check(&headers, body), Ok(()));
        let other = br#"{"type":"INSTALL"}"#;
        assert_eq!(verifier.check(&headers, other), Err(BadSignature::Wrong));
    }

    #[test]
    fn valid_older_header_does_not_replace_a_wrong_newer_one() {
        let (verifier, key) = verifier_and_key();
        let signature = BASE64_STANDARD.encode(key.sign(b"x"));
        let mut headers = HeaderMap::new();
        headers.insert(ED25519_HEADER, "AAAA".parse().unwrap());
        headers.insert(RSA_HEADER, signature.parse().unwrap());
        assert_eq!(verifier.check(&headers, b"x"), Err(BadSignature::Wrong));
    }

    #[test]
    fn malformed_key_is_refused() {
        assert_eq!(Verifier::new("nonsense", RSA_KEY).unwrap_err(), BadKey);
    }
}
