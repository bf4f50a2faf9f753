//! Sealed values and the rings of keys: `store::seal`.
//!
//! Input: a sealed value, in hex or as bytes. The same text is tried as a ring.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use store::KeyRing;
use store::seal::{Label, Purpose, Sealed};
use store::{Generation, InstallationId};

use crate::input::{self, assert_showable};

const RING: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Only what the ring sealed for this very label opens, errors are printable, and no key is quoted.
pub fn check(bytes: &[u8]) {
    let ring = KeyRing::parse(&RING.into()).expect("a ring");
    let id: InstallationId = "install_00112233445566778899aabb".parse().expect("an id");
    let label = |purpose, generation| Label {
        purpose,
        installation: &id,
        generation,
    };
    let right = label(Purpose::AccessToken, Generation::FIRST);

    // Sealed by strangers.
    let value = Sealed::from_bytes(input::maybe_hex(bytes));
    match ring.open(right, &value) {
        Ok(_) => panic!("{value:?} is authentic"),
        Err(error) => assert_showable(&error.to_string(), 160),
    }

    // Sealed here.
    let sealed = ring.seal(right, bytes);
    let opened = ring.open(right, &sealed);
    assert_eq!(opened.as_deref().map(Vec::as_slice), Ok(bytes));
    for wrong in [
        label(Purpose::RefreshToken, Generation::FIRST),
        label(Purpose::AccessToken, Generation::FIRST.next()),
    ] {
        assert!(ring.open(wrong, &sealed).is_err());
    }
    let mut changed = sealed.as_bytes().to_vec();
    let at = bytes
        .iter()
        .fold(0, |sum: usize, byte| sum * 31 % 65_521 + usize::from(*byte));
    let at = at % changed.len();
    changed[at] ^= 1 << (bytes.len() % 8);
    assert!(ring.open(right, &Sealed::from_bytes(changed)).is_err());
    let shorter = sealed.as_bytes()[..at].to_vec();
    assert!(ring.open(right, &Sealed::from_bytes(shorter)).is_err());

    ring_text(&input::text(bytes));
}

fn ring_text(text: &str) {
    let Err(error) = KeyRing::parse(&text.into()) else {
        return;
    };
    let message = error.to_string();
    assert_showable(&message, 120);
    // However the text is written, a key in it is not in the message, which may only name a short id.
    let ids: Vec<&str> = text
        .split(',')
        .filter_map(|entry| entry.trim().split(':').next())
        .filter(|id| id.len() <= 32)
        .collect();
    for word in text.split(|c: char| c == ',' || c == ':' || c.is_whitespace()) {
        let is_key = BASE64_STANDARD
            .decode(word)
            .is_ok_and(|key| key.len() == 32);
        let is_shown = is_key && message.contains(&word[..16]);
        let is_in_an_id = || ids.iter().any(|id| id.contains(&word[..16]));
        assert!(!is_shown || is_in_an_id(), "{message}");
    }
}
