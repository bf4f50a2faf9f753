//! The OAuth `state` parameter of a consent. It proves that the consent began here, and when.
//!
//! The state is signed instead of stored. A flood of consent requests therefore fills no memory.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::random;
use crate::seal::KeyRing;

/// How long a state is valid after it was issued.
pub const VALID_FOR: Duration = Duration::from_secs(10 * 60);

/// A new state: the time in milliseconds, a nonce, and a signature over both, separated by dots.
#[must_use]
pub fn issue(ring: &KeyRing, now: Timestamp) -> String {
    let body = format!("{}.{}", now.as_millis(), random::hex::<16>());
    let signature = ring.sign(&message(&body));
    format!("{body}.{signature}")
}

/// Whether this ring issued the state within [`VALID_FOR`]. The store decides whether the state is used for
/// the first time.
#[must_use]
pub fn verify(ring: &KeyRing, state: &str, now: Timestamp) -> bool {
    let Some((body, signature)) = split(state) else {
        return false;
    };
    let issued = body
        .split('.')
        .next()
        .and_then(|millis| millis.parse().ok());
    let is_fresh = issued.is_some_and(|issued| {
        let issued = Timestamp::from_millis(issued);
        now.since(issued) < VALID_FOR
    });
    is_fresh && ring.verify(&message(body), signature)
}

/// The name of a state, without its signature. A signature may have several spellings.
#[must_use]
pub fn name(state: &str) -> &str {
    split(state).map_or(state, |(body, _)| body)
}

/// Body and signature.
fn split(state: &str) -> Option<(&str, &str)> {
    let (dot, _) = state.match_indices('.').nth(1)?;
    let (body, signature) = state.split_at(dot);
    Some((body, &signature[1..]))
}

/// The proof that a browser began the consent, for its cookie. Somebody who sends a link with a state of his own to
/// another person cannot make it.
#[must_use]
pub fn browser_proof(ring: &KeyRing, state: &str) -> String {
    ring.sign(&browser_message(state))
}

/// Whether a cookie is the proof of this state.
#[must_use]
pub fn verify_browser_proof(ring: &KeyRing, state: &str, proof: &str) -> bool {
    ring.verify(&browser_message(state), proof)
}

fn browser_message(state: &str) -> String {
    format!("browser {state}")
}

fn message(body: &str) -> String {
    format!("consent {body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_does_not_contain_the_signature() {
        let ring = KeyRing::generate("a");
        let state = issue(&ring, Timestamp::from_millis(7));
        let (name, signature) = state.split_at(name(&state).len());
        assert!(name.starts_with("7.") && name.len() == 34, "{name}");
        assert!(signature.starts_with(".a:"), "{signature}");
    }

    #[test]
    fn browser_proof_is_valid_for_its_state_only() {
        let ring = KeyRing::generate("a");
        let proof = browser_proof(&ring, "s1");
        assert!(verify_browser_proof(&ring, "s1", &proof));
        assert!(!verify_browser_proof(&ring, "s2", &proof));
        assert!(!verify_browser_proof(&ring, "s1", ""));
        assert!(!verify(
            &ring,
            &format!("s1.{proof}"),
            Timestamp::from_millis(0)
        ));
    }

    #[test]
    fn state_is_valid_for_ten_minutes_under_its_own_ring() {
        let (ring, stranger) = (KeyRing::generate("a.b"), KeyRing::generate("a"));
        let now = Timestamp::from_millis(1_000_000_000);
        let state = issue(&ring, now);
        assert!(verify(&ring, &state, now));
        assert!(verify(
            &ring,
            &state,
            now + VALID_FOR - Duration::from_millis(1)
        ));
        assert!(!verify(&ring, &state, now + VALID_FOR));
        assert!(!verify(&stranger, &state, now));
        let forged = state.replacen("1000000000", "1000000001", 1);
        assert_ne!(forged, state);
        assert!(!verify(&ring, &forged, now));
        for nonsense in ["", ".", "..", "1.2", "1.2.3"] {
            assert!(!verify(&ring, nonsense, now), "{nonsense}");
        }
    }
}
