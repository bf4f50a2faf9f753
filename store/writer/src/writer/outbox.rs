//! Events and messages for the caller's endpoints: see [`crate::outbox`].

use std::time::Duration;

use store::{InstallationId, Timestamp};

use super::{StoreWriter, WriteError, parse};
use crate::backend::outbox::KEPT_FOR;
use crate::backend::{DueEntries, DuePoll, Loaded};
use crate::events::{Event, EventType, change};
use crate::installation::Installation;
use crate::outbox::about;
use crate::outbox::list::{self, Span};
use crate::outbox::{
    EventPosition, EventsAbout, List, Publication, QueueCount, Queued, Settlement, StoredEvent,
    Subject, Subscribers,
};

/// How many events of a partition are looked at for those of one installation. A partition has one of 256 events.
const MOST_LOOKED_AT: usize = 5_000;

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
        Some(self.subscribers.publication(&event))
    }

    /// Stores an event that is not about an installation.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn publish_event(&self, event: &Event) -> Result<(), WriteError> {
        let publication = self.subscribers.publication(event);
        self.store(&Subject::of_event(event), publication).await
    }

    /// Stores a message that is no event for endpoints. Those that have too many messages do not get it.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn publish(
        &self,
        subject: &Subject,
        message: String,
        endpoints: Vec<String>,
    ) -> Result<(), WriteError> {
        let publication = self.subscribers.without_full(Publication {
            message,
            is_event: false,
            endpoints,
            dropped: Vec::new(),
        });
        self.store(subject, publication).await
    }

    /// Stores a message for an endpoint again, also if many wait for it.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn publish_again(
        &self,
        subject: &Subject,
        message: String,
        endpoint: &str,
    ) -> Result<(), WriteError> {
        let publication = Publication {
            message,
            is_event: false,
            endpoints: vec![endpoint.to_owned()],
            dropped: Vec::new(),
        };
        self.store(subject, publication).await
    }

    async fn store(&self, subject: &Subject, publication: Publication) -> Result<(), WriteError> {
        let (endpoints, dropped) = (publication.endpoints.clone(), publication.dropped.clone());
        if publication.is_event || !endpoints.is_empty() {
            self.backend.publish(subject, publication).await?;
        }
        self.subscribers
            .published(subject.partition, &endpoints, &dropped);
        Ok(())
    }

    /// Polls these partitions of the queues of an endpoint.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn poll_deliveries(
        &self,
        endpoint: &str,
        partitions: &[u8],
    ) -> Result<DuePoll, WriteError> {
        self.backend.poll_deliveries(endpoint, partitions).await
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

    /// Makes those queues of an endpoint due that would be due later than `beyond` from now.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn hasten_deliveries(
        &self,
        endpoint: &str,
        beyond: Duration,
    ) -> Result<(), WriteError> {
        self.backend.hasten_deliveries(endpoint, beyond).await
    }

    /// Counts the messages and dead letters of an endpoint.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_deliveries(&self, endpoint: &str) -> Result<QueueCount, WriteError> {
        self.backend.count_deliveries(endpoint).await
    }

    /// Events after a position, the earliest first. None that an earlier one could still come before.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn events(
        &self,
        after: EventPosition,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, WriteError> {
        let until = self.backend.complete_until().await?;
        self.outbox_list(&List::Events, Span::After(after, until), limit)
            .await
    }

    /// The newest events, the newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn newest_events(&self, limit: usize) -> Result<Vec<StoredEvent>, WriteError> {
        self.outbox_list(&List::Events, Span::Newest, limit).await
    }

    /// The newest events of an installation.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn newest_events_about(
        &self,
        id: &InstallationId,
        limit: usize,
    ) -> Result<EventsAbout, WriteError> {
        let kept_since = self.now().await? - KEPT_FOR;
        about::read(&*self.backend, id, kept_since, (limit, MOST_LOOKED_AT)).await
    }

    /// The newest messages that an endpoint did not take in time, as JSON, the newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn dead_letters(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<Vec<String>, WriteError> {
        let letters = self.newest_dead_letters(endpoint, limit).await?;
        Ok(letters.into_iter().map(|letter| letter.json).collect())
    }

    /// As [`StoreWriter::dead_letters`]. Each has the partition of its subject.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn newest_dead_letters(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, WriteError> {
        let list = List::DeadLetters(endpoint.to_owned());
        self.outbox_list(&list, Span::Newest, limit).await
    }

    /// The oldest of them, the oldest first. Each has the partition of its subject.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn oldest_dead_letters(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, WriteError> {
        let list = List::DeadLetters(endpoint.to_owned());
        let all = Span::After(EventPosition::default(), Timestamp::from_millis(i64::MAX));
        self.outbox_list(&list, all, limit).await
    }

    /// Removes a dead letter of an endpoint.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn remove_dead_letter(
        &self,
        endpoint: &str,
        letter: &StoredEvent,
    ) -> Result<(), WriteError> {
        let partition = letter.position.partition;
        self.backend
            .remove_dead_letter(endpoint, partition, &letter.json)
            .await
    }

    /// Removes about this many of the oldest dead letters of an endpoint.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn forget_dead_letters(
        &self,
        endpoint: &str,
        count: usize,
    ) -> Result<(), WriteError> {
        match self.oldest_dead_letters(endpoint, count).await?.last() {
            Some(last) => {
                let until = last.position.at;
                self.backend.forget_dead_letters(endpoint, until).await
            }
            None => Ok(()),
        }
    }

    /// Removes events and dead letters of more than 30 days, if the store does not do so itself.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn sweep_outbox(&self) -> Result<(), WriteError> {
        self.backend.sweep_outbox().await
    }

    async fn outbox_list(
        &self,
        list: &List,
        span: Span,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, WriteError> {
        let kept_since = self.now().await? - KEPT_FOR;
        list::read(&*self.backend, list, (span, kept_since), limit).await
    }
}
