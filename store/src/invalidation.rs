//! Cache invalidation: announcements to readers that a cached record has changed.

use std::str::FromStr;

use crate::caller::KeyHash;
use crate::id::{Generation, InstallationId};

/// One announcement on the channel, or a change of the channel itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// The installation was written. A copy with a lower generation or another status is stale.
    Installation {
        /// The installation that was written.
        id: InstallationId,
        /// Its generation after the write.
        generation: Generation,
    },
    /// A caller's key was created, changed or revoked.
    Caller(KeyHash),
    /// A name of the index was given to an installation, or taken from one: see [`crate::ExternalId::index_name`].
    Name(String),
    /// Announcements may have been missed. Read every copy again before use.
    ChannelLost,
    /// Announcements arrive. Repeated at intervals while they do.
    ChannelRestored,
}

impl Invalidation {
    /// The published message: `<id> <generation>`, `key <hash>` or `name <name>`. `None` for the state of the channel, which
    /// is never published.
    #[must_use]
    pub fn to_message(&self) -> Option<String> {
        match self {
            Self::Installation { id, generation } => Some(format!("{id} {generation}")),
            Self::Caller(key) => Some(format!("key {key}")),
            Self::Name(name) => Some(format!("name {name}")),
            Self::ChannelLost | Self::ChannelRestored => None,
        }
    }

    /// Parses a published message. An unknown message gives [`Invalidation::ChannelLost`], because it may
    /// invalidate anything.
    #[must_use]
    pub fn from_message(message: &str) -> Self {
        let Some((first, second)) = message.split_once(' ') else {
            return Self::ChannelLost;
        };
        let parsed = if first == "key" {
            KeyHash::from_str(second).ok().map(Self::Caller)
        } else if first == "name" {
            Some(Self::Name(second.to_owned()))
        } else {
            match (first.parse(), second.parse()) {
                (Ok(id), Ok(generation)) => Some(Self::Installation { id, generation }),
                _ => None,
            }
        };
        parsed.unwrap_or(Self::ChannelLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_unknown_ones_invalidate_everything() {
        let changes = [
            Invalidation::Installation {
                id: InstallationId::random(),
                generation: Generation::FIRST.next(),
            },
            Invalidation::Caller(KeyHash::of("evg_secret")),
            Invalidation::Name("x:42".to_owned()),
        ];
        for change in changes {
            let message = change.to_message().unwrap();
            assert_eq!(Invalidation::from_message(&message), change);
        }
        for strange in ["", "nonsense", "install_1 2", "key zz"] {
            assert_eq!(
                Invalidation::from_message(strange),
                Invalidation::ChannelLost,
                "{strange}"
            );
        }
    }
}
