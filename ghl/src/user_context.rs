//! The user context: the user for whom GHL shows a page of an app. GHL gives it to the page.
//!
//! GHL encrypts it with the shared secret of the app, as CryptoJS does with a passphrase: `Salted__`, a salt of 8
//! bytes, and AES-256 in CBC mode, all in base64. The key and the initialization vector are derived from the secret and
//! the salt with MD5, as OpenSSL's `EVP_BytesToKey` does with one round.
//!
//! The context has no signature and no date. Somebody who has one can send it again, and can, with many attempts, change
//! parts of it. So every fault gives the same error, and each attempt takes the same work.

use std::fmt;

use aes::Aes256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cbc::Decryptor;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// The longest encrypted context that is opened, in bytes of base64. GHL's have about 400.
pub const MAX_BYTES: usize = 8 * 1024;

const MARK: &[u8] = b"Salted__";
const SALT_BYTES: usize = 8;
const BLOCK_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// A user of GHL, and what the page is shown for. `Debug` names its members only: it is about a person.
#[derive(Clone, PartialEq, Eq)]
pub struct UserContext(Map<String, Value>);

/// The text is no context of this app: it is changed, cut off or of another app, or the secret is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the user context cannot be opened with the shared secret of the app")]
pub struct NotOpened;

impl UserContext {
    /// Opens a context with one of several shared secrets: two while the secret is changed.
    ///
    /// # Errors
    /// The same error for every fault, see the module.
    pub fn open(secrets: &[SecretString], encrypted: &str) -> Result<Self, NotOpened> {
        let (salt, sealed) = decode(encrypted).ok_or(NotOpened)?;
        // With each of them, also after one has opened it.
        let opened = secrets.iter().map(|secret| decrypt(secret, salt, &sealed));
        let opened: Vec<Option<Self>> = opened.collect();
        opened.into_iter().flatten().next().ok_or(NotOpened)
    }

    /// The id of the user.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.text("userId")
    }

    /// The location that the page is shown for. `None` if it is shown for the agency.
    #[must_use]
    pub fn active_location(&self) -> Option<&str> {
        self.text("activeLocation")
    }

    /// All members, as GHL gives them, such as `userId`, `companyId`, `role`, `type`, `activeLocation`, `userName`, `email`.
    #[must_use]
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }

    fn text(&self, member: &str) -> Option<&str> {
        let text = self.0.get(member)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }
}

impl fmt::Debug for UserContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The salt, and whole blocks.
fn decode(encrypted: &str) -> Option<([u8; SALT_BYTES], Vec<u8>)> {
    let encrypted = encrypted.trim();
    if encrypted.len() > MAX_BYTES {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(encrypted).ok()?;
    let (salt, sealed) = bytes.strip_prefix(MARK)?.split_first_chunk()?;
    let is_whole = !sealed.is_empty() && sealed.len().is_multiple_of(BLOCK_BYTES);
    is_whole.then(|| (*salt, sealed.to_vec()))
}

fn decrypt(secret: &SecretString, salt: [u8; SALT_BYTES], sealed: &[u8]) -> Option<UserContext> {
    let (key, vector) = derive(secret, salt);
    let mut cipher = Decryptor::<Aes256>::new(&key.into(), &vector.into());
    let mut plain = sealed.to_vec();
    for block in plain.chunks_exact_mut(BLOCK_BYTES) {
        cipher.decrypt_block(block.try_into().ok()?);
    }
    let (length, is_padded) = unpad(&plain);
    // Also if the padding is wrong, because the time must not reveal the fault.
    let read = serde_json::from_slice(&plain[..length]);
    let context = read.ok().map(UserContext);
    context.filter(|context| is_padded && context.user().is_some())
}

/// The key and the initialization vector.
fn derive(secret: &SecretString, salt: [u8; SALT_BYTES]) -> ([u8; KEY_BYTES], [u8; BLOCK_BYTES]) {
    let next = |last: &[u8]| -> [u8; BLOCK_BYTES] {
        let digest = Md5::new()
            .chain_update(last)
            .chain_update(secret.expose_secret())
            .chain_update(salt);
        digest.finalize().into()
    };
    let first = next(&[]);
    let second = next(&first);
    let mut key = [0; KEY_BYTES];
    key[..BLOCK_BYTES].copy_from_slice(&first);
    key[BLOCK_BYTES..].copy_from_slice(&second);
    (key, next(&second))
}

/// The length without the padding (PKCS #7), and whether it is one. Looks at each byte of the last block in any case.
fn unpad(plain: &[u8]) -> (usize, bool) {
    let count = plain.last().copied().unwrap_or_default();
    let last = plain.iter().rev().take(BLOCK_BYTES).zip(0u8..);
    let differs = last.fold(0, |differs, (byte, index)| {
        let is_padding = u8::from(index < count).wrapping_neg();
        differs | (is_padding & (byte ^ count))
    });
    let is_padded = differs == 0 && (1..=BLOCK_BYTES).contains(&usize::from(count));
    let length = match is_padded {
        true => plain.len().saturating_sub(count.into()),
        false => plain.len(),
    };
    (length, is_padded)
}

#[cfg(test)]
mod tests {
    use cbc::Encryptor;
    use cbc::cipher::BlockModeEncrypt;

    use super::*;

    const SECRET: &str = "6f1f6b0e-3a0f-4a52-9b7c-5d1a2c3e4f50";

    /// Made by crypto-js 4.2.0, with `CryptoJS.AES.encrypt(JSON.stringify(context), SECRET)`.
    const OF_AGENCY: &str = "U2FsdGVkX190yf5MQSR/FlDdf4rZyaAv5luy9fBZbqXsH57m3Er3HYC1lrTZ67BpvsYvBIwaRJDCHDG/zRu4e+14P3T/y3f+Zs53zML79tqlaqAbpvUj+3sJOKDAVHXAVU4E5yGobxly3E9zpvQuuJbcIc/X96qSoMcGo5YikLopflMPZ1dM7v+EBBZgtBiA";
    const OF_LOCATION: &str = "U2FsdGVkX19lREyfevLkiWEe8IH3SwCM7tBHY6lq07dQIC75bxXQ8qKGoB3O9sbRnrGOxxLZilit0qLF/tXTDOB0SrWiT18quKaZqEDnPXk8rtyHe39Pacslc2diSvcTzBA940y+YlfLplKs8Dmpa+/FnlptLqIl+pHCTOzS1a26/eAyTPc382OxDak/3Xg5O5iPw0Y8I1dqKV6oY6KwZ85L0PSD9S75C9EpC8fYGi0=";
    /// Made by OpenSSL 3.0, with `openssl enc -aes-256-cbc -md md5 -a -A -salt -pass pass:SECRET`.
    const BY_OPENSSL: &str = "U2FsdGVkX18nPDHZvXWA/qGIXWvqS+BC/iY2RY9E7viPPL1E2m3cweLXCMIeTUcqZLIsle3VNex1qVMYnx5mKWM4QoqPVr4Yb/dsP/vq82a1rWIqUmKGKnnKM/XlEubZmWrKRl8XOknqMCSRvh3OZg==";

    fn secrets(all: &[&str]) -> Vec<SecretString> {
        all.iter().map(|it| SecretString::from(*it)).collect()
    }

    /// Encrypts blocks as they are, without a padding.
    fn encrypt(plain: &[u8]) -> String {
        let salt = *b"saltsalt";
        let (key, vector) = derive(&SECRET.into(), salt);
        let mut cipher = Encryptor::<Aes256>::new(&key.into(), &vector.into());
        let mut sealed = plain.to_vec();
        for block in sealed.chunks_exact_mut(BLOCK_BYTES) {
            cipher.encrypt_block(block.try_into().unwrap());
        }
        BASE64_STANDARD.encode([MARK, &salt, &sealed].concat())
    }

    fn padded(plain: &str) -> Vec<u8> {
        let count = BLOCK_BYTES - plain.len() % BLOCK_BYTES;
        let padding = vec![u8::try_from(count).unwrap(); count];
        [plain.as_bytes(), &padding].concat()
    }

    #[test]
    fn contexts_of_crypto_js_and_of_openssl_are_opened() {
        let agency = UserContext::open(&secrets(&[SECRET]), OF_AGENCY).unwrap();
        assert_eq!(agency.user(), Some("u7Ty2"));
        assert_eq!(agency.active_location(), None);
        assert_eq!(agency.into_members()["userName"], "Ada Lovelace");
        let location = UserContext::open(&secrets(&[SECRET]), OF_LOCATION).unwrap();
        assert_eq!(location.active_location(), Some("locA"));
        assert!(!format!("{location:?}").contains("jose"));
        assert_eq!(location.into_members()["userName"], "José Núñez");
        let opened = UserContext::open(&secrets(&[SECRET]), &format!(" {BY_OPENSSL}\n"));
        assert_eq!(opened.unwrap().active_location(), Some("locA"));
    }

    #[test]
    fn each_of_several_secrets_opens_a_context() {
        for all in [[SECRET, "other"], ["other", SECRET]] {
            assert!(UserContext::open(&secrets(&all), OF_AGENCY).is_ok());
        }
        for all in [&[][..], &["other"]] {
            assert_eq!(UserContext::open(&secrets(all), OF_AGENCY), Err(NotOpened));
        }
    }

    #[test]
    fn own_encryption_of_the_tests_is_that_of_openssl() {
        let opened = UserContext::open(&secrets(&[SECRET]), &encrypt(&padded(r#"{"userId":"u"}"#)));
        assert_eq!(opened.unwrap().user(), Some("u"));
    }

    #[test]
    fn every_fault_is_the_same_error() {
        let bytes = BASE64_STANDARD.decode(OF_LOCATION).unwrap();
        let mut wrong: Vec<String> = vec![
            String::new(),
            "no base64!".to_owned(),
            BASE64_STANDARD.encode(&bytes[8..]),
            BASE64_STANDARD.encode(&bytes[..16]),
            BASE64_STANDARD.encode(&bytes[..bytes.len() - 1]),
            BASE64_STANDARD.encode(&bytes[..bytes.len() - 16]),
            "A".repeat(MAX_BYTES + 4),
            encrypt(&padded("[]")),
            encrypt(&padded("{}")),
            encrypt(&padded(r#"{"userId":""}"#)),
            encrypt(&padded(r#"{"userId":7}"#)),
        ];
        // JSON that is right, and no padding of this form.
        for padding in [
            &b"  "[..],
            b"\0\0",
            b"\x01\x02",
            b"\x02\x01\x02",
            b"                \x11",
        ] {
            let mut plain = br#"{"userId":"u"}"#.to_vec();
            plain.resize(48 - padding.len(), b' ');
            plain.extend(padding);
            wrong.push(encrypt(&plain));
        }
        for wrong in wrong {
            let opened = UserContext::open(&secrets(&[SECRET]), &wrong);
            assert_eq!(opened, Err(NotOpened), "{wrong}");
        }
    }

    #[test]
    fn padding_is_one_to_sixteen_equal_bytes() {
        for count in 1..=16 {
            let plain = padded(&"x".repeat(32 - count));
            assert_eq!(unpad(&plain), (32 - count, true), "{count}");
        }
        for end in [0, 17, 32, 255] {
            assert_eq!(unpad(&[end; 32]), (32, false), "{end}");
        }
        let mut plain = [16; 32];
        plain[16] = 15;
        assert_eq!(unpad(&plain), (32, false));
        assert_eq!(unpad(&[]), (0, false));
    }
}
