//! The failed attempts with a message, and the messages that were given up, as they are stored.

use serde::{Deserialize, Serialize};
use store::Timestamp;

/// The failed attempts with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempts {
    pub(crate) count: u32,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) error: String,
}

/// A message that an endpoint has not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) subject: String,
    pub(crate) given_up_at: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) error: String,
    /// The message as it was stored.
    pub(crate) message: String,
}

impl Attempts {
    /// None, at an endpoint that is down.
    pub(super) fn none(now: Timestamp) -> Self {
        Self {
            count: 0,
            first_at: now,
            last_at: now,
            error: "the endpoint is down".to_owned(),
        }
    }

    /// The attempts after another failure.
    pub(super) fn after(earlier: Option<Self>, error: String, now: Timestamp) -> Self {
        Self {
            count: earlier.as_ref().map_or(0, |it| it.count).saturating_add(1),
            first_at: earlier.map_or(now, |it| it.first_at),
            last_at: now,
            error,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl DeadLetter {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_attempts_are_counted_from_the_first() {
        let at = Timestamp::from_millis;
        let first = Attempts::after(None, "down".to_owned(), at(1));
        let stored = Attempts::parse(&first.to_json());
        let second = Attempts::after(stored, "still down".to_owned(), at(9));
        assert_eq!(
            (second.count, second.first_at, second.last_at),
            (2, at(1), at(9))
        );
        assert_eq!(second.error, "still down");
    }
}
