//! The outbox: messages for the caller's endpoints that are stored together with the change they report.
//!
//! Each endpoint has a queue for each subject. The first message of a queue is sent until the endpoint takes it, then
//! the next one. So the messages about one installation arrive in order, and those about others do not wait.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use store::{InstallationId, Timestamp, keys};
use tokio::sync::Notify;

use crate::events::Event;

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

/// An event as it is stored, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the list.
    pub position: EventPosition,
    /// The event as JSON.
    pub json: String,
}

/// How many queues of an endpoint hold messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QueueCount {
    /// All of them.
    pub queues: u64,
    /// Those whose first message failed at least once.
    pub failing: u64,
}

/// Decides whether an endpoint wants an event.
type WantsEvent = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// An endpoint, as far as the store must know it.
pub struct Subscriber {
    /// The endpoint's id.
    pub endpoint: String,
    /// Whether it gets an event.
    pub wants: WantsEvent,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The endpoints of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Subscribers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Mutex<Arc<Vec<Subscriber>>>,
    added: Notify,
}

impl Subscribers {
    /// Replaces the endpoints.
    pub fn set(&self, all: Vec<Subscriber>) {
        *self.0.all.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    /// The ids of the endpoints that want an event.
    #[must_use]
    pub fn wanting(&self, event: &Event) -> Vec<String> {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        let all = Arc::clone(&all);
        let wanting = all.iter().filter(|one| (one.wants)(event));
        wanting.map(|one| one.endpoint.clone()).collect()
    }

    /// Waits until this process has stored a message.
    pub async fn added(&self) {
        self.0.added.notified().await;
    }

    /// Says that a message was stored.
    pub(crate) fn notify(&self) {
        self.0.added.notify_waiters();
    }
}
