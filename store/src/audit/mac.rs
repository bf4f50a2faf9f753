//! Authentication of a gateway's report to a broker, without a further secret.
//!
//! Both sides have the access ring. The MAC covers the time and the hash of the body, so a broker checks it before it
//! reads the body. A recorded report is valid for two minutes, and repeats entries that are there: nothing changes. Numbers of calls have
//! the id of their report, and each broker counts an id once.

use std::fmt;
use std::time::Duration;

use ring::digest;

use crate::clock::Timestamp;
use crate::random;
use crate::seal::KeyRing;

const SCHEME: &str = "Evergreen ";

/// How far the clocks of a gateway and a broker may be apart. Both follow the store's.
const TOLERANCE: Duration = Duration::from_secs(2 * 60);

/// SHA-256 of a body: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyHash(String);

impl BodyHash {
    /// The hash of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(random::to_hex(
            digest::digest(&digest::SHA256, body).as_ref(),
        ))
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As somebody claims it to be.
impl From<String> for BodyHash {
    fn from(claimed: String) -> Self {
        Self(claimed)
    }
}

/// The data that authenticate a report.
#[derive(Debug, Clone)]
pub struct Pass {
    /// When it was sent, in the store's time.
    pub at: Timestamp,
    /// The hash of its body.
    pub body: BodyHash,
}

impl Pass {
    /// The `Authorization` value.
    #[must_use]
    pub fn sign(&self, ring: &KeyRing) -> String {
        format!("{SCHEME}{}", ring.sign(&self.message()))
    }

    /// Whether [`Pass::sign`] made `authorization` with a key of this ring, not long before or after `now`.
    #[must_use]
    pub fn verify(&self, ring: &KeyRing, authorization: &str, now: Timestamp) -> bool {
        let is_recent = now.since(self.at).max(self.at.since(now)) <= TOLERANCE;
        let signature = authorization.strip_prefix(SCHEME);
        is_recent && signature.is_some_and(|it| ring.verify(&self.message(), it))
    }

    fn message(&self) -> String {
        format!("audit {} {}", self.at.as_millis(), self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_valid_for_one_ring_body_and_two_minutes() {
        let ring = KeyRing::generate("a");
        let sent = Timestamp::from_millis(1_000_000);
        let body = BodyHash::of(b"{}");
        let pass = Pass { at: sent, body };
        let mac = pass.sign(&ring);
        for now in [sent, sent + TOLERANCE, sent - TOLERANCE] {
            assert!(pass.verify(&ring, &mac, now));
        }
        let late = sent + TOLERANCE + Duration::from_millis(1);
        assert!(!pass.verify(&ring, &mac, late));
        let moved = Pass {
            at: late,
            ..pass.clone()
        };
        assert!(!moved.verify(&ring, &mac, late));
        let other = Pass {
            body: BodyHash::of(b"[]"),
            ..pass.clone()
        };
        assert!(!other.verify(&ring, &mac, sent));
        assert!(!pass.verify(&KeyRing::generate("a"), &mac, sent));
        assert!(!pass.verify(&ring, "", sent));
    }
}
