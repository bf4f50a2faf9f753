//! What readers are told when something they may have cached has changed.

use std::str::FromStr;

use crate::caller::KeyHash;
use crate::id::{Generation, InstallationId};

/// One announcement on the channel, or the loss of the channel itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The installation was written; a copy with a lower generation, or another status, is old.
    Installation {
        id: InstallationId,
        generation: Generation,
    },
    /// A caller's key was made, changed or revoked.
    Caller(KeyHash),
    /// Announcements may have been missed: every copy must be read again before use.
    Lost,
    /// Announcements arrive; repeated now and then while they do.
    Restored,
}

impl Change {
    /// What is published: `<id> <generation>` or `key <hash>`.
    #[must_use]
    pub fn to_message(&self) -> Option<String> {
        match self {
            Self::Installation { id, generation } => Some(format!("{id} {generation}")),
            Self::Caller(key) => Some(format!("key {key}")),
            Self::Lost | Self::Restored => None,
        }
    }

    /// Reads a published message; anything unknown means that something unknown changed.
    #[must_use]
    pub fn from_message(message: &str) -> Self {
        let Some((first, second)) = message.split_once(' ') else {
            return Self::Lost;
        };
        let parsed = if first == "key" {
            KeyHash::from_str(second).ok().map(Self::Caller)
        } else {
            match (first.parse(), second.parse()) {
                (Ok(id), Ok(generation)) => Some(Self::Installation { id, generation }),
                _ => None,
            }
        };
        parsed.unwrap_or(Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_strange_ones_are_taken_seriously() {
        let changes = [
            Change::Installation {
                id: InstallationId::random(),
                generation: Generation::FIRST.next(),
            },
            Change::Caller(KeyHash::of("evg_secret")),
        ];
        for change in changes {
            let message = change.to_message().unwrap();
            assert_eq!(Change::from_message(&message), change);
        }
        for strange in ["", "nonsense", "install_1 2", "key zz"] {
            assert_eq!(Change::from_message(strange), Change::Lost, "{strange}");
        }
    }
}
