//! Events and messages for the caller's endpoints: see [`crate::outbox`].

use std::time::Duration;

use super::{StoreWriter, WriteError, parse};
use crate::backend::{DueEntries, DuePoll, Loaded};
use crate::events::{Event, EventType, change};
use crate::installation::Installation;
use crate::outbox::{
    EventPosition, Publication, QueueCount, Queued, Settlement, StoredEvent, Subject, Subscribers,
};

/// An event is listed only after this time. Then no event can be written before it any more, also where the servers of a
/// Cluster have different clocks.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

impl StoreWriter {
    /// The endpoints that get the events of this process.
    #[must_use]
    pub fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// The event that a change of the loaded record causes.
    pub(super) fn event(&self, next: &Installation, loaded: &Loaded) -> Option<Publication> {
        let kind = match parse(&next.id, loaded) {
            Ok(before) => change::event_of(before.as_ref(), next),
            // Only a consent replaces a record that cannot be read.
            Err(_) => Some(EventType::Reconnected),
        };
        let event = Event::about(next, kind?, loaded.now);
        Some(Publication {
            message: event.to_json(),
            is_event: true,
            endpoints: self.subscribers.wanting(&event),
        })
    }

    /// Stores an event that is not about an installation.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn publish_event(&self, event: &Event) -> Result<(), WriteError> {
        let publication = Publication {
            message: event.to_json(),
            is_event: true,
            endpoints: self.subscribers.wanting(event),
        };
        self.publish(&Subject::of_event(event), publication).await
    }

    /// Stores a message for endpoints.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn publish(
        &self,
        subject: &Subject,
        publication: Publication,
    ) -> Result<(), WriteError> {
        if publication.endpoints.is_empty() && !publication.is_event {
            return Ok(());
        }
        self.backend.publish(subject, publication).await?;
        self.subscribers.notify();
        Ok(())
    }

    /// Polls the queues of an endpoint.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn poll_deliveries(&self, endpoint: &str) -> Result<DuePoll, WriteError> {
        self.backend.poll_deliveries(endpoint).await
    }

    /// Takes queues of an endpoint that are due. No other broker gets them within `claim`.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn claim_deliveries(
        &self,
        endpoint: &str,
        due: DueEntries,
        claim: Duration,
    ) -> Result<Vec<Subject>, WriteError> {
        self.backend.claim_deliveries(endpoint, due, claim).await
    }

    /// The first messages of a queue.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn queued(
        &self,
        endpoint: &str,
        subject: &Subject,
        limit: usize,
    ) -> Result<Queued, WriteError> {
        self.backend.queued(endpoint, subject, limit).await
    }

    /// Records the end of an attempt. The queue is due again after `pause`, unless it is empty.
    ///
    /// # Errors
    /// When the store is unavailable. The message is then sent again.
    pub async fn settle(
        &self,
        endpoint: &str,
        subject: &Subject,
        settlement: &Settlement,
        pause: Duration,
    ) -> Result<(), WriteError> {
        self.backend
            .settle(endpoint, subject, settlement, pause)
            .await
    }

    /// Makes all queues of an endpoint due, since it takes messages again.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn hasten_deliveries(&self, endpoint: &str) -> Result<(), WriteError> {
        self.backend.hasten_deliveries(endpoint).await
    }

    /// Counts the queues of an endpoint that hold messages.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_deliveries(&self, endpoint: &str) -> Result<QueueCount, WriteError> {
        self.backend.count_deliveries(endpoint).await
    }

    /// Events after a position, the earliest first. None of the last 2 s, so that none is missed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn events(
        &self,
        after: EventPosition,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, WriteError> {
        let until = self.now().await? - SETTLED_AFTER;
        self.backend.events(after, until, limit).await
    }

    /// The newest events, the newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn newest_events(&self, limit: usize) -> Result<Vec<StoredEvent>, WriteError> {
        self.backend.newest_events(limit).await
    }

    /// The newest messages that an endpoint did not take in time, as JSON, the newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<String>, WriteError> {
        self.backend.dead_letters(limit).await
    }
}
