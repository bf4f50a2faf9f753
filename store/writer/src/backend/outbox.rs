//! The outbox, as a backend keeps it.

use std::time::Duration;

use store::Timestamp;

use super::{BackendFuture, DueEntries, DuePoll};
use crate::outbox::{
    EventPosition, Publication, QueueCount, Queued, Settlement, StoredEvent, Subject,
};

/// How long events and dead letters are kept.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The part of a store that keeps messages for endpoints. Each operation is atomic.
pub trait OutboxBackend: Send + Sync {
    /// Stores messages about a subject.
    fn publish<'a>(
        &'a self,
        subject: &'a Subject,
        publication: Publication,
    ) -> BackendFuture<'a, ()>;
    /// Reads the first entries of every partition of an endpoint's queues.
    fn poll_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, DuePoll>;
    /// Takes subjects that are due, and reschedules them to `claim` from now in the same step.
    fn claim_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<Subject>>;
    /// The first messages of a queue.
    fn queued<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        limit: usize,
    ) -> BackendFuture<'a, Queued>;
    /// Records the end of an attempt, and schedules the queue to `pause` from now unless it is empty. A repetition
    /// changes nothing more.
    fn settle<'a>(
        &'a self,
        endpoint: &'a str,
        subject: &'a Subject,
        settlement: &'a Settlement,
        pause: Duration,
    ) -> BackendFuture<'a, ()>;
    /// Schedules all queues of an endpoint to now.
    fn hasten_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, ()>;
    /// Counts the queues of an endpoint.
    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount>;
    /// Events after a position and not after `until`, the earliest first.
    fn events(
        &self,
        after: EventPosition,
        until: Timestamp,
        limit: usize,
    ) -> BackendFuture<'_, Vec<StoredEvent>>;
    /// The newest events, the newest first.
    fn newest_events(&self, limit: usize) -> BackendFuture<'_, Vec<StoredEvent>>;
    /// The newest dead letters as JSON, the newest first.
    fn dead_letters(&self, limit: usize) -> BackendFuture<'_, Vec<String>>;
}

/// The first time that an event of a partition can have after a position.
#[must_use]
pub fn first_after(after: EventPosition, partition: u8) -> Timestamp {
    match partition > after.partition {
        true => after.at,
        false => after.at + Duration::from_millis(1),
    }
}
