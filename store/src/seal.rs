//! Sealing: authenticated encryption of every token at rest, under a ring of keys.
//!
//! The first key of a ring seals, all of them open, so a key is rotated by putting a new one in
//! front. What a value is and whom it belongs to is bound in as associated data: a sealed token
//! copied to another installation, or a refresh token put in an access token's place, does not open.

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::id::{Generation, InstallationId};
use crate::{pack, random};

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;

/// What a sealed value is: bound into the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    AccessToken,
    RefreshToken,
    /// A whole answer of the token endpoint, on its way to the store.
    Answer,
    /// An answer of the token endpoint as it arrived: it could not be read, or was somebody else's.
    RawAnswer,
    /// GHL's answer to a customer's code, on its way to the store.
    Consent,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access",
            Self::RefreshToken => "refresh",
            Self::Answer => "answer",
            Self::RawAnswer => "raw answer",
            Self::Consent => "consent",
        }
    }
}

/// Whose value it is: bound into the seal.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    pub purpose: Purpose,
    pub installation: &'a InstallationId,
    pub generation: Generation,
}

impl Label<'_> {
    fn associated_data(&self) -> Aad<Vec<u8>> {
        let Self {
            purpose,
            installation,
            generation,
        } = self;
        Aad::from(
            format!("evergreen {} {installation} {generation}", purpose.as_str()).into_bytes(),
        )
    }
}

/// An encrypted value: format, key id, nonce, ciphertext and tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed value is damaged or of a newer format")]
    Malformed,
    #[error("no key `{0}` in the ring: add it after the first one until nothing is sealed with it")]
    UnknownKey(String),
    #[error("the sealed value was changed, or belongs to another record or key")]
    Forged,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("a ring needs at least one key, written `id:base64 of 32 bytes`")]
    Empty,
    #[error("key number {0} must be written `id:base64 of 32 bytes`")]
    Malformed(usize),
    #[error("key id `{0}` must be 1 to 32 letters, digits, `-` or `_`")]
    BadId(String),
    #[error("key `{0}` must be 32 bytes in base64 (44 characters)")]
    BadKey(String),
    #[error("key id `{0}` is there twice")]
    Duplicate(String),
}

/// Keys by id; the first one seals.
pub struct KeyRing {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    aead: LessSafeKey,
    mac: hmac::Key,
}

impl KeyRing {
    /// Reads `id:base64 of 32 bytes`, comma separated.
    ///
    /// # Errors
    /// Says which key is wrong and how it is written right; never repeats a key.
    pub fn parse(text: &SecretString) -> Result<Self, RingError> {
        let mut keys: Vec<Key> = Vec::new();
        let entries = text.expose_secret().split(',').map(str::trim);
        for (index, entry) in entries.filter(|entry| !entry.is_empty()).enumerate() {
            let (id, encoded) = entry
                .split_once(':')
                .ok_or(RingError::Malformed(index + 1))?;
            let is_fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !(1..=32).contains(&id.len()) || !id.bytes().all(is_fine) {
                return Err(RingError::BadId(id.chars().take(40).collect()));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(RingError::Duplicate(id.to_owned()));
            }
            let bytes = BASE64_STANDARD
                .decode(encoded)
                .map(Zeroizing::new)
                .map_err(|_| RingError::BadKey(id.to_owned()))?;
            keys.push(Key::new(id, &bytes).ok_or_else(|| RingError::BadKey(id.to_owned()))?);
        }
        if keys.is_empty() {
            return Err(RingError::Empty);
        }
        Ok(Self { keys })
    }

    /// The text of a ring of one new random key, as [`KeyRing::parse`] reads it.
    #[must_use]
    pub fn generate_text(id: &str) -> SecretString {
        let key = Zeroizing::new(random::bytes::<KEY_BYTES>());
        SecretString::from(format!("{id}:{}", BASE64_STANDARD.encode(*key)))
    }

    /// A ring of one new random key.
    #[must_use]
    pub fn generate(id: &str) -> Self {
        let key = Zeroizing::new(random::bytes::<KEY_BYTES>());
        let key = Key::new(id, &*key).expect("the key has the right size");
        Self { keys: vec![key] }
    }

    #[must_use]
    pub fn seal(&self, label: Label<'_>, plain: &[u8]) -> Sealed {
        let key = &self.keys[0];
        let nonce = random::bytes::<NONCE_LEN>();
        let mut body = plain.to_vec();
        key.aead
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                label.associated_data(),
                &mut body,
            )
            .expect("a token is far below the cipher's limit of 64 GiB");
        let id_length = u8::try_from(key.id.len()).expect("at most 32");
        let mut sealed = Vec::with_capacity(2 + key.id.len() + NONCE_LEN + body.len());
        sealed.extend([FORMAT, id_length]);
        sealed.extend(key.id.as_bytes());
        sealed.extend(nonce);
        sealed.extend(body);
        Sealed(sealed)
    }

    /// # Errors
    /// When the value was made with a key that the ring does not have, was changed, or belongs to
    /// another label.
    pub fn open(&self, label: Label<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (key_id, nonce, body) = split(&sealed.0).ok_or(OpenError::Malformed)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id.as_bytes() == key_id)
            .ok_or_else(|| OpenError::UnknownKey(String::from_utf8_lossy(key_id).into_owned()))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = key
            .aead
            .open_in_place(nonce, label.associated_data(), &mut body)
            .map_err(|_| OpenError::Forged)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Like [`KeyRing::seal`], for a token: it takes fewer bytes.
    #[must_use]
    pub fn seal_token(&self, label: Label<'_>, token: &SecretString) -> Sealed {
        self.seal(label, &pack::pack(token.expose_secret()))
    }

    /// Opens what [`KeyRing::seal_token`] made.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn open_token(&self, label: Label<'_>, sealed: &Sealed) -> Result<SecretString, OpenError> {
        let packed = self.open(label, sealed)?;
        let token = pack::unpack(&packed).ok_or(OpenError::Malformed)?;
        Ok(SecretString::from(token.as_str()))
    }

    /// `<key id>:<mac>` of a message, with the first key.
    pub(crate) fn sign(&self, message: &str) -> String {
        let key = &self.keys[0];
        let mac = hmac::sign(&key.mac, message.as_bytes());
        format!("{}:{}", key.id, BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    pub(crate) fn verify(&self, message: &str, signature: &str) -> bool {
        let Some((id, mac)) = signature.split_once(':') else {
            return false;
        };
        let key = self.keys.iter().find(|key| key.id == id);
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac);
        match (key, mac) {
            (Some(key), Ok(mac)) => hmac::verify(&key.mac, message.as_bytes(), &mac).is_ok(),
            _ => false,
        }
    }
}

impl Key {
    fn new(id: &str, bytes: &[u8]) -> Option<Self> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        // The MAC's key is derived, so that one secret never serves two algorithms.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let derived = hmac::sign(&root, b"evergreen refresh pass");
        Some(Self {
            id: id.to_owned(),
            aead,
            mac: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| &key.id);
        f.debug_set().entries(ids).finish()
    }
}

fn split(sealed: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&[format, id_length], rest) = sealed.split_first_chunk::<2>()?;
    if format != FORMAT {
        return None;
    }
    let (key_id, rest) = rest.split_at_checked(usize::from(id_length))?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    Some((key_id, nonce, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(installation: &InstallationId) -> Label<'_> {
        Label {
            purpose: Purpose::AccessToken,
            installation,
            generation: Generation::FIRST,
        }
    }

    #[test]
    fn a_seal_opens_only_in_its_own_place() {
        let ring = KeyRing::generate("one");
        let (mine, theirs) = (InstallationId::random(), InstallationId::random());
        let sealed = ring.seal(label(&mine), b"token");
        assert_eq!(
            ring.open(label(&mine), &sealed).unwrap().as_slice(),
            b"token"
        );
        let elsewhere = [
            label(&theirs),
            Label {
                purpose: Purpose::RefreshToken,
                ..label(&mine)
            },
            Label {
                generation: Generation::FIRST.next(),
                ..label(&mine)
            },
        ];
        for label in elsewhere {
            assert_eq!(ring.open(label, &sealed), Err(OpenError::Forged));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let ring = KeyRing::generate("one");
        let id = InstallationId::random();
        let sealed = ring.seal(label(&id), b"token");
        for index in 0..sealed.0.len() {
            let mut damaged = sealed.clone();
            damaged.0[index] ^= 1;
            assert!(ring.open(label(&id), &damaged).is_err(), "byte {index}");
        }
        for length in 0..sealed.0.len() {
            let short = Sealed(sealed.0[..length].to_vec());
            assert!(ring.open(label(&id), &short).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_key_is_rotated_by_putting_a_new_one_in_front() {
        let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
        let both = format!("{},{}", new.expose_secret(), old.expose_secret());
        let id = InstallationId::random();
        let sealed = KeyRing::parse(&old).unwrap().seal(label(&id), b"token");
        let both = KeyRing::parse(&both.into()).unwrap();
        assert!(both.open(label(&id), &sealed).is_ok());
        let resealed = both.seal(label(&id), b"token");
        let new = KeyRing::parse(&new).unwrap();
        assert!(new.open(label(&id), &resealed).is_ok());
        assert_eq!(
            new.open(label(&id), &sealed),
            Err(OpenError::UnknownKey("old".to_owned()))
        );
    }

    #[test]
    fn a_bad_ring_is_named_and_its_keys_are_not() {
        let parse = |text: &str| KeyRing::parse(&text.into()).map(|_| ()).unwrap_err();
        assert_eq!(parse(""), RingError::Empty);
        assert_eq!(parse("c2VjcmV0"), RingError::Malformed(1));
        assert_eq!(parse("a:c2VjcmV0"), RingError::BadKey("a".to_owned()));
        assert_eq!(parse("a b:c2VjcmV0"), RingError::BadId("a b".to_owned()));
        let ring = KeyRing::generate_text("a");
        let twice = format!("{0},{0}", ring.expose_secret());
        assert_eq!(parse(&twice), RingError::Duplicate("a".to_owned()));
        assert_eq!(format!("{:?}", KeyRing::parse(&ring).unwrap()), r#"{"a"}"#);
    }
}
