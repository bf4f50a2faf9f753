//! Webhooks: what GHL tells the app, and how it proves that it is GHL.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use spki::SubjectPublicKeyInfoRef;

/// GHL's keys of today. Settings may replace them: GHL rotates them.
pub const ED25519_KEY: &str = include_str!("../keys/webhook-ed25519.pem");
pub const RSA_KEY: &str = include_str!("../keys/webhook-rsa.pem");

const ED25519_HEADER: &str = "x-ghl-signature";
const RSA_HEADER: &str = "x-wh-signature";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a public key in PEM (`-----BEGIN PUBLIC KEY-----`)")]
pub struct BadKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the request carries neither `x-ghl-signature` nor `x-wh-signature`")]
    Missing,
    #[error("the signature does not match the body")]
    Wrong,
}

/// The public keys webhooks are checked with.
#[derive(Debug, Clone)]
pub struct Verifier {
    ed25519: UnparsedPublicKey<Vec<u8>>,
    rsa: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier {
    /// # Errors
    /// When one of the keys is not a PEM public key.
    pub fn new(ed25519_pem: &str, rsa_pem: &str) -> Result<Self, BadKey> {
        Ok(Self {
            ed25519: UnparsedPublicKey::new(&ED25519, key_bits(ed25519_pem)?),
            rsa: UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key_bits(rsa_pem)?),
        })
    }

    /// Checks the signature over the raw body. Where the newer header is there the older one
    /// counts for nothing, or an attacker could choose the weaker check.
    ///
    /// # Errors
    /// When there is no signature, or it is of other bytes or another key.
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

/// The part of a webhook that evergreen acts on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: String,
    /// The app's id: the part of the client id before its `-`.
    #[serde(default)]
    pub app_id: Option<String>,
    #[serde(default)]
    pub location_id: Option<String>,
    #[serde(default)]
    pub company_id: Option<String>,
    #[serde(default)]
    pub webhook_id: Option<String>,
    /// RFC 3339.
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
    fn the_raw_body_is_what_was_signed() {
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
    fn the_older_header_does_not_rescue_a_wrong_newer_one() {
        let (verifier, key) = verifier_and_key();
        let signature = BASE64_STANDARD.encode(key.sign(b"x"));
        let mut headers = HeaderMap::new();
        headers.insert(ED25519_HEADER, "AAAA".parse().unwrap());
        headers.insert(RSA_HEADER, signature.parse().unwrap());
        assert_eq!(verifier.check(&headers, b"x"), Err(BadSignature::Wrong));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert_eq!(Verifier::new("nonsense", RSA_KEY).unwrap_err(), BadKey);
    }
}
