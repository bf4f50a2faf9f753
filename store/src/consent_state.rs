//! The OAuth `state` parameter of a consent. It proves that the consent began here, and when.
//!
//! The state is signed instead of stored. A flood of consent requests therefore fills no memory.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::app::AppName;
use crate::clock::Timestamp;
use crate::random;
use crate::seal::KeyRing;

/// How long a state is valid after it was issued.
pub const VALID_FOR: Duration = Duration::from_secs(10 * 60);

/// Between the nonce, the name of the app and the context. A state without a context does not name the default app.
const SEPARATOR: char = '~';

/// The contents of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentState {
    /// The app that the consent is for.
    pub app: AppName,
    /// Further context that the issuer needs when the browser comes back.
    pub context: Option<String>,
}

/// A new state for a consent to `app`: the time in milliseconds, a nonce with the name of the app and the context, and a
/// signature over all, separated by dots. The browser sees the context.
#[must_use]
pub fn issue(ring: &KeyRing, app: &AppName, context: Option<&str>, now: Timestamp) -> String {
    let mut body = format!("{}.{}", now.as_millis(), random::hex::<16>());
    if !app.is_default() || context.is_some() {
        body.push(SEPARATOR);
        body.push_str(app.as_str());
    }
    if let Some(context) = context {
        body.push(SEPARATOR);
        body.push_str(&BASE64_URL_SAFE_NO_PAD.encode(context));
    }
    let signature = ring.sign(&message(&body));
    format!("{body}.{signature}")
}

/// The contents of a state that this ring issued within [`VALID_FOR`]. `None` for any other text. The store decides
/// whether the state is used for the first time.
#[must_use]
pub fn verify(ring: &KeyRing, state: &str, now: Timestamp) -> Option<ConsentState> {
    let (body, signature) = split(state)?;
    let (millis, nonce) = body.split_once('.')?;
    let issued = Timestamp::from_millis(millis.parse().ok()?);
    if now.since(issued) >= VALID_FOR || !ring.verify(&message(body), signature) {
        return None;
    }
    let mut parts = nonce.split(SEPARATOR).skip(1);
    let app = match parts.next() {
        Some(app) => app.parse().ok()?,
        None => AppName::default(),
    };
    let context = match parts.next() {
        Some(text) => {
            let text = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
            Some(String::from_utf8(text).ok()?)
        }
        None => None,
    };
    Some(ConsentState { app, context })
}

/// As [`verify`], of any age. It proves where the consent began and nothing else.
#[must_use]
pub fn read(ring: &KeyRing, state: &str) -> Option<ConsentState> {
    let (millis, _) = state.split_once('.')?;
    verify(ring, state, Timestamp::from_millis(millis.parse().ok()?))
}

/// The name of a state: its time and its nonce. A signature may have several spellings.
#[must_use]
pub fn name(state: &str) -> &str {
    let body = split(state).map_or(state, |(body, _)| body);
    body.split(SEPARATOR).next().unwrap_or(body)
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

/// The signature of the outcome of a consent, which the page in the customer's browser shows.
#[must_use]
pub fn sign_outcome(ring: &KeyRing, outcome: &str) -> String {
    ring.sign(&outcome_message(outcome))
}

/// Whether an outcome was signed with this ring.
#[must_use]
pub fn verify_outcome(ring: &KeyRing, outcome: &str, signature: &str) -> bool {
    ring.verify(&outcome_message(outcome), signature)
}

fn outcome_message(outcome: &str) -> String {
    format!("consent outcome {outcome}")
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
        let state = issue(&ring, &AppName::default(), None, Timestamp::from_millis(7));
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
        let now = Timestamp::from_millis(0);
        assert_eq!(verify(&ring, &format!("s1.{proof}"), now), None);
    }

    #[test]
    fn state_is_valid_for_ten_minutes_under_its_own_ring_and_names_its_app() {
        let (ring, stranger) = (KeyRing::generate("a.b"), KeyRing::generate("a"));
        let now = Timestamp::from_millis(1_000_000_000);
        for app in ["default", "staging"] {
            let app: AppName = app.parse().unwrap();
            let state = issue(&ring, &app, None, now);
            let contents = ConsentState { app, context: None };
            assert_eq!(verify(&ring, &state, now), Some(contents.clone()));
            let late = now + VALID_FOR;
            let early = now + VALID_FOR - Duration::from_millis(1);
            assert_eq!(verify(&ring, &state, early), Some(contents));
            assert_eq!(verify(&ring, &state, late), None);
            assert!(read(&ring, &state).is_some() && read(&stranger, &state).is_none());
            assert_eq!(verify(&stranger, &state, now), None);
            let forged = state.replacen("1000000000", "1000000001", 1);
            assert_ne!(forged, state);
            assert_eq!(verify(&ring, &forged, now), None);
        }
        let of_default = issue(&ring, &AppName::default(), None, now);
        let (body, signature) = split(&of_default).unwrap();
        let of_another = format!("{body}~staging.{signature}");
        assert_eq!(verify(&ring, &of_another, now), None);
        for nonsense in ["", ".", "..", "1.2", "1.2.3"] {
            assert_eq!(verify(&ring, nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn context_comes_back_and_is_no_part_of_the_name() {
        let ring = KeyRing::generate("a");
        let now = Timestamp::from_millis(7);
        for app in ["default", "staging"] {
            let app: AppName = app.parse().unwrap();
            let state = issue(&ring, &app, Some("{\"~.\": 1}"), now);
            let contents = verify(&ring, &state, now).unwrap();
            assert_eq!(contents.context.as_deref(), Some("{\"~.\": 1}"));
            assert_eq!(contents.app, app);
            assert_eq!(name(&state).len(), 34, "{state}");
        }
    }
}
