//! Sealing: authenticated encryption (AES-256-GCM) of every token at rest, under a ring of keys.
//!
//! The first key of a ring encrypts and every key decrypts. To rotate keys, put a new key in front. Purpose,
//! installation and generation are bound in as associated data. A sealed token does not decrypt if it is
//! copied to another installation or into another field.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::id::{Generation, InstallationId};
use crate::{compress, random};

/// The first byte of a sealed value.
const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
/// The length of a check value: far too long to be met by chance.
const CHECK_BYTES: usize = 16;

/// The kind of a sealed value. Bound into the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
    /// A parsed response of the token endpoint, before the store has it.
    TokenResponse,
    /// A response body of the token endpoint that could not be parsed or belongs to another installation.
    RawTokenResponse,
    /// GHL's response to a code exchange, before the store has it.
    Consent,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access",
            Self::RefreshToken => "refresh",
            Self::TokenResponse => "answer",
            Self::RawTokenResponse => "raw answer",
            Self::Consent => "consent",
        }
    }
}

/// The kind of the value and its owner. Bound into the seal.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The kind of the value.
    pub purpose: Purpose,
    /// The installation that it belongs to.
    pub installation: &'a InstallationId,
    /// The generation that it belongs to.
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

/// An encrypted value: format (1 byte), length of the key id (1 byte), key id, nonce, ciphertext and tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// A value as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The stored form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id of the key that encrypted it; `None` if the bytes are truncated, damaged or of a newer format.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        let (key_id, ..) = split(&self.0)?;
        std::str::from_utf8(key_id).ok()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Why a sealed value cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are truncated, damaged or of a newer format.
    #[error("the sealed value is damaged or of a newer format")]
    Malformed,
    /// The ring has no key of this id.
    #[error("no key `{0}` in the ring: add it after the first one until nothing is sealed with it")]
    UnknownKey(String),
    /// Authentication failed: the value was changed, or the label or the key is another one.
    #[error("the sealed value was changed, or belongs to another record or key")]
    Forged,
}

/// Why a text is no [`KeyRing`]. The messages never contain a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The text has no key.
    #[error("a ring needs at least one key, written `id:base64 of 32 bytes`")]
    Empty,
    /// The key at this position (from 1) has no `:`.
    #[error("key number {0} must be written `id:base64 of 32 bytes`")]
    Malformed(usize),
    /// The id of the key at this position (from 1) has a wrong form. It is not shown: somebody may have written the key
    /// in its place.
    #[error("the id of key number {0} must be 1 to 32 letters, digits, `-` or `_`")]
    BadId(usize),
    /// The key of this id is not 32 bytes in base64.
    #[error("key `{0}` must be 32 bytes in base64 (44 characters)")]
    BadKey(String),
    /// Two keys have this id.
    #[error("key id `{0}` is used twice")]
    Duplicate(String),
}

/// In the place of a key: the key is lost, and what it encrypted stays unreadable.
const LOST: &str = "lost";

/// Keys by id. The first one encrypts. The keys can be replaced while the ring is in use.
pub struct KeyRing {
    keys: Keys,
    /// The ring that replaced these keys. A ring keeps its former keys until it is dropped, so that readers need no
    /// lock: a reload is rare, and a ring is small.
    next: OnceLock<Box<KeyRing>>,
}

#[derive(Clone)]
struct Keys {
    keys: Vec<Key>,
    /// The ids of keys that are declared as lost.
    lost: Vec<String>,
}

#[derive(Clone)]
struct Key {
    id: String,
    aead: LessSafeKey,
    mac: hmac::Key,
    check: String,
}

impl KeyRing {
    /// Parses `id:base64 of 32 bytes`, separated by commas. `id:lost` declares that a key is lost.
    ///
    /// # Errors
    /// Names the wrong key and the right form, and never contains a key.
    pub fn parse(text: &SecretString) -> Result<Self, RingError> {
        let (mut keys, mut lost): (Vec<Key>, Vec<String>) = (Vec::new(), Vec::new());
        let entries = text.expose_secret().split(',').map(str::trim);
        for (index, entry) in entries.filter(|entry| !entry.is_empty()).enumerate() {
            let (id, encoded) = entry
                .split_once(':')
                .ok_or(RingError::Malformed(index + 1))?;
            if !is_key_id(id.as_bytes()) {
                return Err(RingError::BadId(index + 1));
            }
            if keys.iter().any(|key| key.id == id) || lost.iter().any(|lost| lost == id) {
                return Err(RingError::Duplicate(id.to_owned()));
            }
            if encoded == LOST {
                lost.push(id.to_owned());
                continue;
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
        Ok(Self::of(Keys { keys, lost }))
    }

    fn of(keys: Keys) -> Self {
        let next = OnceLock::new();
        Self { keys, next }
    }

    /// The keys of now.
    fn current(&self) -> &Keys {
        &self.last().keys
    }

    fn last(&self) -> &Self {
        let mut ring = self;
        while let Some(next) = ring.next.get() {
            ring = next;
        }
        ring
    }

    /// Uses the keys of another ring from now on, for everybody who shares this one.
    pub fn replace(&self, next: &Self) {
        let mut next = Box::new(Self::of(next.current().clone()));
        // Another thread may have replaced it meanwhile. Then that ring is replaced.
        while let Err(again) = self.last().next.set(next) {
            next = again;
        }
    }

    /// Whether both have the same keys under the same ids, in the same order.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.check_values().eq(other.check_values()) && self.current().lost == other.current().lost
    }

    /// A ring that seals as this one does, and also opens what the other one sealed.
    #[must_use]
    pub fn and_opens_as(&self, other: &Self) -> Self {
        let mut both = self.current().clone();
        let is_new = |key: &&Key| !self.check_values().any(|(id, _)| id == key.id);
        both.keys
            .extend(other.current().keys.iter().filter(is_new).cloned());
        both.lost.clone_from(&other.current().lost);
        Self::of(both)
    }

    /// The text of a ring of one new random key, in the form that [`KeyRing::parse`] reads.
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
        Self::of(Keys {
            keys: vec![key],
            lost: Vec::new(),
        })
    }

    /// The id of the key that encrypts.
    #[must_use]
    pub fn first_id(&self) -> &str {
        &self.current().keys[0].id
    }

    /// The id of each key and its check value, the first key first.
    ///
    /// The check value proves that two processes have the same key under this id. It is a MAC under a derived
    /// key, so it reveals nothing about the key.
    pub fn check_values(&self) -> impl Iterator<Item = (&str, &str)> {
        let keys = self.current().keys.iter();
        keys.map(|key| (key.id.as_str(), key.check.as_str()))
    }

    /// Whether the key of this id is declared as lost.
    #[must_use]
    pub fn is_lost(&self, id: &str) -> bool {
        self.current().lost.iter().any(|lost| lost == id)
    }

    /// Encrypts `plain` with the first key and a random nonce.
    #[must_use]
    pub fn seal(&self, label: Label<'_>, plain: &[u8]) -> Sealed {
        let key = &self.current().keys[0];
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

    /// Decrypts a value.
    ///
    /// # Errors
    /// When the ring lacks the key, or the value was changed or belongs to another label.
    pub fn open(&self, label: Label<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (key_id, nonce, body) = split(&sealed.0).ok_or(OpenError::Malformed)?;
        // No ring has another id, and the error shows it.
        if !is_key_id(key_id) {
            return Err(OpenError::Malformed);
        }
        let key = self
            .current()
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

    /// Decrypts a value and encrypts it with the first key, under the same label. `None` if the first key has
    /// encrypted it.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn reseal(&self, label: Label<'_>, sealed: &Sealed) -> Result<Option<Sealed>, OpenError> {
        if sealed.key_id() == Some(self.first_id()) {
            return Ok(None);
        }
        let plain = self.open(label, sealed)?;
        Ok(Some(self.seal(label, &plain)))
    }

    /// Compresses and encrypts a token.
    #[must_use]
    pub fn seal_token(&self, label: Label<'_>, token: &SecretString) -> Sealed {
        self.seal(label, &compress::compress_token(token.expose_secret()))
    }

    /// Decrypts a token that [`KeyRing::seal_token`] encrypted.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn open_token(&self, label: Label<'_>, sealed: &Sealed) -> Result<SecretString, OpenError> {
        let compressed = self.open(label, sealed)?;
        let token = compress::decompress_token(&compressed).ok_or(OpenError::Malformed)?;
        Ok(SecretString::from(token.as_str()))
    }

    /// `<key id>:<mac>` of a message, with the first key.
    pub(crate) fn sign(&self, message: &str) -> String {
        let key = &self.current().keys[0];
        let mac = hmac::sign(&key.mac, message.as_bytes());
        format!("{}:{}", key.id, BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    pub(crate) fn verify(&self, message: &str, signature: &str) -> bool {
        let Some((id, mac)) = signature.split_once(':') else {
            return false;
        };
        let key = self.current().keys.iter().find(|key| key.id == id);
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
        // The keys of MACs are derived, so that no key serves two algorithms or two purposes.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let derive = |purpose: &[u8]| {
            let derived = hmac::sign(&root, purpose);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        let check = hmac::sign(&derive(b"evergreen key check"), id.as_bytes());
        Some(Self {
            id: id.to_owned(),
            aead,
            mac: derive(b"evergreen refresh pass"),
            check: random::to_hex(&check.as_ref()[..CHECK_BYTES]),
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.current().keys.iter().map(|key| &key.id);
        f.debug_set().entries(ids).finish()
    }
}

/// A key id is a part of stored values and of messages.
fn is_key_id(id: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=32).contains(&id.len()) && id.iter().all(is_allowed)
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
mod tests;
