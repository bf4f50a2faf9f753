//! The outbox of the simulated store.

use std::time::Duration;

use store::Timestamp;
use store_writer::backend::outbox::{ListEntries, OutboxBackend};
use store_writer::backend::{BackendFuture, DueEntries, DuePoll};
use store_writer::outbox::{List, ListRange, Publication, QueueCount, Queued, Settlement, Subject};

use super::Connection;

/// No simulated broker has an endpoint.
impl OutboxBackend for Connection {
    fn publish<'a>(&'a self, _: &'a Subject, _: Publication) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn poll_deliveries<'a>(&'a self, _: &'a str, _: &'a [u8]) -> BackendFuture<'a, DuePoll> {
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

    fn hasten_deliveries<'a>(&'a self, _: &'a str, _: Duration) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn count_deliveries<'a>(&'a self, _: &'a str) -> BackendFuture<'a, QueueCount> {
        Box::pin(async { Ok(QueueCount::default()) })
    }

    fn read_list<'a>(
        &'a self,
        _: &'a List,
        ranges: &'a [ListRange],
    ) -> BackendFuture<'a, Vec<ListEntries>> {
        Box::pin(async { Ok(vec![Vec::new(); ranges.len()]) })
    }

    fn complete_until(&self) -> BackendFuture<'_, Timestamp> {
        Box::pin(async { Ok(Timestamp::default()) })
    }

    fn remove_dead_letter<'a>(&'a self, _: &'a str, _: u8, _: &'a str) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn forget_dead_letters<'a>(&'a self, _: &'a str, _: Timestamp) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
