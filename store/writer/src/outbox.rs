//! The outbox: messages for the caller's endpoints that are stored together with the change they report.
//!
//! Each endpoint has a queue for each subject. The first message of a queue is sent until the endpoint takes it, then
//! the next one. So the messages about one installation arrive in order, and those about others do not wait.

pub(crate) mod about;
pub(crate) mod list;
pub mod subscribers;

use std::fmt;

use store::{InstallationId, Timestamp, keys};

use crate::events::Event;
pub use about::EventsAbout;
pub use list::{List, ListRange};
pub use subscribers::{Backlog, Subscriber, Subscribers};

/// The thing that the messages of one queue are about: an installation, or a name of GHL or of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The partition of its keys.
    pub partition: u8,
    /// The id or name.
    pub name: String,
}

impl Subject {
    /// An installation.
    #[must_use]
    pub fn installation(id: &InstallationId) -> Self {
        Self {
            partition: id.partition(),
            name: id.to_string(),
        }
    }

    /// That of an event.
    #[must_use]
    pub fn of_event(event: &Event) -> Self {
        match &event.installation {
            Some(installation) => Self::installation(&installation.id),
            None => Self::named(&format!("app-{}", event.app)),
        }
    }

    /// Those with these names in a partition.
    pub(crate) fn all_of(partition: u8, names: Vec<String>) -> Vec<Self> {
        let names = names.into_iter();
        names.map(|name| Self { partition, name }).collect()
    }

    /// The one with this [`Subject::name`].
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.parse() {
            Ok(id) => Self::installation(&id),
            Err(_) => Self::named(name),
        }
    }

    /// Anything else, by its name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            partition: keys::partition_of(name),
            name: name.to_owned(),
        }
    }
}

/// Messages to store: one text for several endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The message as JSON.
    pub message: String,
    /// Whether it is an event that [`crate::StoreWriter::events`] lists.
    pub is_event: bool,
    /// The ids of the endpoints that get it.
    pub endpoints: Vec<String>,
    /// The ids of the endpoints that would get it, if not so many messages waited for them.
    pub dropped: Vec<String>,
}

/// The first messages of a queue.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The messages as JSON, the oldest first.
    pub messages: Vec<String>,
    /// The record of failed attempts with the first one.
    pub attempts: Option<String>,
}

/// The end of an attempt to deliver the first message of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The endpoint took this message.
    Delivered(String),
    /// It did not take this message for too long. `letter` is kept in its place.
    Dead {
        /// The message.
        message: String,
        /// The dead letter, as JSON.
        letter: String,
    },
    /// The attempt failed. These are the failed attempts with the message up to now.
    Failed {
        /// As JSON.
        attempts: String,
    },
    /// Nothing was sent.
    Unsent,
}

/// A place in the list of all events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// When the event was written.
    pub at: Timestamp,
    /// The partition. A partition writes one event in a millisecond.
    pub partition: u8,
}

impl EventPosition {
    /// The position with this [`fmt::Display`]; `None` if there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (at, partition) = text.split_once('-')?;
        Some(Self {
            at: Timestamp::from_millis(at.parse().ok()?),
            partition: partition.parse().ok()?,
        })
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.as_millis(), self.partition)
    }
}

/// An event as it is stored, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the list.
    pub position: EventPosition,
    /// The event as JSON.
    pub json: String,
}

/// The amounts that are stored for an endpoint.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QueueCount {
    /// Queues that hold messages.
    pub queues: u64,
    /// Those whose first message failed at least once.
    pub failing: u64,
    /// The messages of all queues.
    pub messages: u64,
    /// The messages that were given up.
    pub dead_letters: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_as_it_is_written() {
        let position = EventPosition {
            at: Timestamp::from_millis(1_700_000_000_123),
            partition: 255,
        };
        assert_eq!(EventPosition::parse(&position.to_string()), Some(position));
        for bad in ["", "1", "x-1", "1-256", "1-2-3"] {
            assert_eq!(EventPosition::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn subject_is_found_by_its_name() {
        let installation = Subject::installation(&InstallationId::random());
        for subject in [installation, Subject::named("app-default")] {
            assert_eq!(Subject::of_name(&subject.name), subject);
        }
    }
}
