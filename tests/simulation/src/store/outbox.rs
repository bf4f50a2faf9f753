//! The outbox of the simulated store.

use std::time::Duration;

use store::Timestamp;
use store_writer::backend::outbox::OutboxBackend;
use store_writer::backend::{BackendFuture, DueEntries, DuePoll};
use store_writer::outbox::{
    EventPosition, Publication, QueueCount, Queued, Settlement, StoredEvent, Subject,
};

use super::Connection;

/// No simulated broker has an endpoint.
impl OutboxBackend for Connection {
    fn publish<'a>(&'a self, _: &'a Subject, _: Publication) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn poll_deliveries<'a>(&'a self, _: &'a str) -> BackendFuture<'a, DuePoll> {
        Box::pin(async { Ok(DuePoll::default()) })
    }

    fn claim_deliveries<'a>(
        &'a self,
        _: &'a str,
        _: DueEntries,
        _: Duration,
    ) -> BackendFuture<'a, Vec<Subject>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn queued<'a>(&'a self, _: &'a str, _: &'a Subject, _: usize) -> BackendFuture<'a, Queued> {
        Box::pin(async { Ok(Queued::default()) })
    }

    fn settle<'a>(
        &'a self,
        _: &'a str,
        _: &'a Subject,
        _: &'a Settlement,
        _: Duration,
    ) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn hasten_deliveries<'a>(&'a self, _: &'a str) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn count_deliveries<'a>(&'a self, _: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async { Ok(QueueCount::default()) })
    }

    fn events(
        &self,
        _: EventPosition,
        _: Timestamp,
        _: usize,
    ) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn newest_events(&self, _: usize) -> BackendFuture<'_, Vec<StoredEvent>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn dead_letters(&self, _: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
