//! The `state` that a consent carries to GHL and back: proof that it began here, and when.
//!
//! It is signed rather than stored, so that whoever asks for a million consents fills nothing.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::random;
use crate::seal::KeyRing;

/// How long a consent may take.
pub const GOOD_FOR: Duration = Duration::from_secs(10 * 60);

/// A new state: the time, a nonce, and a signature over both.
#[must_use]
pub fn give(ring: &KeyRing, now: Timestamp) -> String {
    let body = format!("{}.{}", now.as_millis(), random::hex::<16>());
    let signature = ring.sign(&message(&body));
    format!("{body}.{signature}")
}

/// Whether the state was given out here within the last ten minutes. That it is used for the first
/// time is for the store to say.
#[must_use]
pub fn is_ours(ring: &KeyRing, state: &str, now: Timestamp) -> bool {
    let Some((body, signature)) = state.match_indices('.').nth(1).map(|(dot, _)| {
        let (body, signature) = state.split_at(dot);
        (body, &signature[1..])
    }) else {
        return false;
    };
    let given = body
        .split('.')
        .next()
        .and_then(|millis| millis.parse().ok());
    let is_fresh = given.is_some_and(|given| {
        let given = Timestamp::from_millis(given);
        now.since(given) < GOOD_FOR
    });
    is_fresh && ring.verify(&message(body), signature)
}

fn message(body: &str) -> String {
    format!("consent {body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_good_for_ten_minutes_and_only_where_it_was_given() {
        let (ring, stranger) = (KeyRing::generate("a.b"), KeyRing::generate("a"));
        let now = Timestamp::from_millis(1_000_000_000);
        let state = give(&ring, now);
        assert!(is_ours(&ring, &state, now));
        assert!(is_ours(
            &ring,
            &state,
            now + GOOD_FOR - Duration::from_millis(1)
        ));
        assert!(!is_ours(&ring, &state, now + GOOD_FOR));
        assert!(!is_ours(&stranger, &state, now));
        let forged = state.replacen("1000000000", "1000000001", 1);
        assert_ne!(forged, state);
        assert!(!is_ours(&ring, &forged, now));
        for nonsense in ["", ".", "..", "1.2", "1.2.3"] {
            assert!(!is_ours(&ring, nonsense, now), "{nonsense}");
        }
    }
}
