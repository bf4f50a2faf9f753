//! Sessions of the console, in the cookie of a browser.
//!
//! A session is signed instead of stored, so any broker of a fleet takes it. It names the key that signed in, and ends
//! with that key. It is signed with the ring of refresh tokens: gateways have the one of access tokens, and must not be
//! able to make a session.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::caller::KeyHash;
use crate::clock::Timestamp;
use crate::random;
use crate::seal::KeyRing;

/// How long a session lasts.
pub const VALID_FOR: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest text that is looked at, in bytes.
const MAX_BYTES: usize = 1024;

/// A session of one browser.
///
/// As text: the body as JSON in base64, the id of the sealing key, and the signature, separated by dots.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsoleSession {
    /// Names the session. Its owner's forms contain a signature of it.
    id: String,
    /// The key that signed in.
    pub key: KeyHash,
    /// When it ends, in the store's time.
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: String,
    key: KeyHash,
    expires: Timestamp,
}

impl ConsoleSession {
    /// A new session of this key.
    #[must_use]
    pub fn begin(key: KeyHash, now: Timestamp) -> Self {
        Self {
            id: random::hex::<16>(),
            key,
            expires_at: now + VALID_FOR,
        }
    }

    /// The text for the cookie.
    ///
    /// # Panics
    /// Never. Texts and numbers always serialize.
    #[must_use]
    pub fn issue(&self, ring: &KeyRing) -> SecretString {
        let body = Body {
            id: self.id.clone(),
            key: self.key,
            expires: self.expires_at,
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers");
        let body = BASE64_URL_SAFE_NO_PAD.encode(body);
        let signature = ring.sign(&session_message(&body));
        let (id, mac) = signature.split_once(':').unwrap_or_default();
        format!("{body}.{id}.{mac}").into()
    }

    /// The session that this ring issued, unless it has expired. `None` for any other text.
    #[must_use]
    pub fn verify(ring: &KeyRing, presented: &str, now: Timestamp) -> Option<Self> {
        if presented.len() > MAX_BYTES {
            return None;
        }
        let (body, signature) = presented.split_once('.')?;
        let (id, mac) = signature.rsplit_once('.')?;
        if !ring.verify(&session_message(body), &format!("{id}:{mac}")) {
            return None;
        }
        let body = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?;
        let body: Body = serde_json::from_slice(&body).ok()?;
        (now < body.expires).then_some(Self {
            id: body.id,
            key: body.key,
            expires_at: body.expires,
        })
    }

    /// The hash under which the end of the session is stored.
    #[must_use]
    pub fn name(&self) -> String {
        KeyHash::of(&self.id).to_string()
    }

    /// The proof in each form of this session (CSRF token). It is no session.
    #[must_use]
    pub fn form_proof(&self, ring: &KeyRing) -> String {
        ring.sign(&self.form_message())
    }

    /// Whether a form is of this session. The comparison takes the same time for all proofs.
    #[must_use]
    pub fn verify_form(&self, ring: &KeyRing, proof: &str) -> bool {
        proof.len() <= MAX_BYTES && ring.verify(&self.form_message(), proof)
    }

    /// A signature of a notice that only this session is shown.
    #[must_use]
    pub fn sign_notice(&self, ring: &KeyRing, notice: &str) -> String {
        ring.sign(&self.notice_message(notice))
    }

    /// Whether [`Self::sign_notice`] made the signature.
    #[must_use]
    pub fn verify_notice(&self, ring: &KeyRing, notice: &str, signature: &str) -> bool {
        ring.verify(&self.notice_message(notice), signature)
    }

    fn form_message(&self) -> String {
        format!("console-form {}", self.id)
    }

    fn notice_message(&self, notice: &str) -> String {
        format!("console-notice {} {notice}", self.id)
    }
}

/// Without the id, which is a part of the proof that forms need.
impl fmt::Debug for ConsoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSession")
            .field("key", &self.key)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

fn session_message(body: &str) -> String {
    format!("console-session {body}")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn session() -> ConsoleSession {
        ConsoleSession::begin(KeyHash::of("evg_1"), NOW)
    }

    fn text(ring: &KeyRing, session: &ConsoleSession) -> String {
        session.issue(ring).expose_secret().to_owned()
    }

    #[test]
    fn session_reads_back_until_it_expires() {
        let ring = KeyRing::generate("a.b");
        let session = session();
        let text = text(&ring, &session);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(text.chars().all(is_allowed), "RFC 6265: {text}");
        let read = |now| ConsoleSession::verify(&ring, &text, now);
        assert_eq!(read(NOW), Some(session));
        let last = NOW + VALID_FOR - Duration::from_millis(1);
        assert!(read(last).is_some());
        assert_eq!(read(NOW + VALID_FOR), None);
    }

    #[test]
    fn changed_text_and_other_rings_make_no_session() {
        let ring = KeyRing::generate("a");
        let text = text(&ring, &session());
        let stranger = KeyRing::generate("a");
        assert_eq!(ConsoleSession::verify(&stranger, &text, NOW), None);
        let other = super::BASE64_URL_SAFE_NO_PAD.encode("{}");
        let (_, signature) = text.split_once('.').unwrap();
        for changed in ["", ".", "..", &format!("{other}.{signature}"), &text[1..]] {
            assert_eq!(ConsoleSession::verify(&ring, changed, NOW), None);
        }
    }

    #[test]
    fn proof_of_a_form_is_for_one_session_and_is_none_itself() {
        let ring = KeyRing::generate("a");
        let (session, other) = (session(), session());
        let proof = session.form_proof(&ring);
        assert!(session.verify_form(&ring, &proof));
        assert!(!other.verify_form(&ring, &proof));
        assert!(!session.verify_form(&KeyRing::generate("a"), &proof));
        for none in ["", ":", "a:"] {
            assert!(!session.verify_form(&ring, none));
        }
        assert!(!session.verify_notice(&ring, "", &proof));
        assert_eq!(ConsoleSession::verify(&ring, &proof, NOW), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let session = session();
        assert!(!format!("{session:?}").contains(&session.id));
    }
}
