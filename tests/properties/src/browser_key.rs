//! Browser keys: `store::BrowserKey`.
//!
//! Input: a key. The same text is tried as an origin and as a call, one a line.

use secrecy::ExposeSecret;
use store::browser_key::WebOrigin;
use store::{BrowserKey, KeyHash, KeyRing, Timestamp};

use crate::input::{self, assert_showable};

const RING: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Only what the ring issued is a key, unchanged, and it reads back.
pub fn check(bytes: &[u8]) {
    let ring = KeyRing::parse(&RING.into()).expect("a ring");
    let text = input::text(bytes);
    assert_eq!(BrowserKey::verify(&ring, &text), None, "of strangers");

    let ([origin, call], _) = input::lines(bytes);
    let origin = input::text(origin).parse::<WebOrigin>();
    if let Err(error) = origin {
        assert_showable(&error.to_string(), 120);
    }
    if let Ok(origin) = &origin {
        let shown = origin.to_string();
        assert_showable(&shown, bytes.len() * 12);
        assert_eq!(shown.parse().as_ref(), Ok(origin), "an origin has one text");
    }
    let key = BrowserKey {
        issuer: KeyHash::of(&text),
        installation: "install_00112233445566778899aabb".parse().expect("an id"),
        calls: input::text(call).parse().into_iter().collect(),
        origin: origin.ok(),
        expires_at: Timestamp::from_millis(i64::try_from(bytes.len()).expect("a length")),
    };
    let Ok(issued) = key.issue(&ring) else {
        return;
    };
    let issued = issued.expose_secret();
    assert_eq!(BrowserKey::verify(&ring, issued).as_ref(), Some(&key));
    let at = usize::from(bytes.first().copied().unwrap_or_default()) % issued.len();
    let mut changed = issued.as_bytes().to_vec();
    changed[at] ^= 1;
    assert_eq!(BrowserKey::verify(&ring, &input::text(&changed)), None);
    assert_eq!(BrowserKey::verify(&ring, &issued[..at]), None);
}
