//! The outbox, as a backend keeps it.

use std::time::Duration;

use store::Timestamp;

use super::{BackendFuture, DueEntries, DuePoll};
use crate::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};

/// How long events and dead letters are kept.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Entries of a list with their times.
pub type ListEntries = Vec<(Timestamp, String)>;

/// The part of a store that keeps messages for endpoints. Each operation is atomic, unless it says otherwise.
pub trait OutboxBackend: Send + Sync {
    /// Stores messages about a subject.
    fn publish<'a>(
        &'a self,
        subject: &'a Subject,
        publication: Publication,
    ) -> BackendFuture<'a, ()>;
    /// Reads the first entries of these partitions of an endpoint's queues.
    fn poll_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        partitions: &'a [u8],
    ) -> BackendFuture<'a, DuePoll>;
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
    /// Schedules the queues of an endpoint to now that are due later than `beyond` from now. Atomic for each partition.
    fn hasten_deliveries<'a>(
        &'a self,
        endpoint: &'a str,
        beyond: Duration,
    ) -> BackendFuture<'a, ()>;
    /// Counts what is stored for an endpoint. Not atomic.
    fn count_deliveries<'a>(&'a self, endpoint: &'a str) -> BackendFuture<'a, QueueCount>;
    /// Reads entries of a list, for each range separately. Not atomic.
    fn read_list<'a>(
        &'a self,
        list: &'a List,
        ranges: &'a [ListRange],
    ) -> BackendFuture<'a, Vec<ListEntries>>;
    /// The time until which the list of events is complete: no event is added there any more.
    fn complete_until(&self) -> BackendFuture<'_, Timestamp>;
    /// Removes a dead letter of an endpoint.
    fn remove_dead_letter<'a>(
        &'a self,
        endpoint: &'a str,
        partition: u8,
        letter: &'a str,
    ) -> BackendFuture<'a, ()>;
    /// Removes the dead letters of an endpoint that were given up at `until` or earlier. Atomic for each partition.
    fn forget_dead_letters<'a>(
        &'a self,
        endpoint: &'a str,
        until: Timestamp,
    ) -> BackendFuture<'a, ()>;
    /// Removes events and dead letters that are older than [`KEPT_FOR`], if the store does not do so itself.
    fn sweep_outbox(&self) -> BackendFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
