//! The endpoints of a process, and what it has just stored for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Publication;
use crate::events::Event;

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
    backlogs: Mutex<BTreeMap<String, Arc<Backlog>>>,
}

/// The messages that this process has stored for an endpoint since somebody looked.
#[derive(Debug, Default)]
pub struct Backlog {
    is_full: AtomicBool,
    dropped: AtomicU64,
    partitions: Mutex<BTreeSet<u8>>,
    added: Notify,
}

impl Subscribers {
    /// Replaces the endpoints.
    pub fn set(&self, all: Vec<Subscriber>) {
        *lock(&self.0.all) = Arc::new(all);
    }

    /// The backlog of an endpoint.
    #[must_use]
    pub fn backlog(&self, endpoint: &str) -> Arc<Backlog> {
        let mut backlogs = lock(&self.0.backlogs);
        backlogs.entry(endpoint.to_owned()).or_default().clone()
    }

    /// An event, for the endpoints that want it.
    pub(crate) fn publication(&self, event: &Event) -> Publication {
        let all = Arc::clone(&lock(&self.0.all));
        let wanting = all.iter().filter(|one| (one.wants)(event));
        let endpoints = wanting.map(|one| one.endpoint.clone()).collect();
        self.without_full(Publication {
            message: event.to_json(),
            is_event: true,
            endpoints,
            dropped: Vec::new(),
        })
    }

    /// Takes those endpoints out that have too many messages.
    pub(crate) fn without_full(&self, mut publication: Publication) -> Publication {
        let backlogs = lock(&self.0.backlogs);
        let is_full = |endpoint: &String| {
            let backlog = backlogs.get(endpoint);
            backlog.is_some_and(|it| it.is_full.load(Ordering::Acquire))
        };
        let (full, open) = publication.endpoints.into_iter().partition(is_full);
        publication.endpoints = open;
        publication.dropped = full;
        publication
    }

    /// Says that a message about a subject of this partition was stored.
    pub(crate) fn published(&self, partition: u8, endpoints: &[String], dropped: &[String]) {
        let backlogs = lock(&self.0.backlogs);
        for backlog in endpoints.iter().filter_map(|it| backlogs.get(it)) {
            lock(&backlog.partitions).insert(partition);
            backlog.added.notify_one();
        }
        for backlog in dropped.iter().filter_map(|it| backlogs.get(it)) {
            backlog.dropped.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Backlog {
    /// Waits until this process has stored a message that [`Backlog::take_partitions`] has not told yet.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// The partitions that this process has stored messages in, since the last call.
    #[must_use]
    pub fn take_partitions(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.partitions))
            .into_iter()
            .collect()
    }

    /// While it is full, this process stores no message for the endpoint.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Release);
    }

    /// How many messages were not stored since the last call.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::AcqRel)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use store::{AppName, Timestamp};

    use super::*;
    use crate::events::EventType;

    #[test]
    fn full_endpoint_gets_no_message_and_it_is_counted() {
        let subscribers = Subscribers::default();
        let all = ["crm", "alerts"].map(|endpoint| Subscriber {
            endpoint: endpoint.to_owned(),
            wants: Box::new(|_| true),
        });
        subscribers.set(all.into());
        let (crm, alerts) = (subscribers.backlog("crm"), subscribers.backlog("alerts"));
        crm.set_full(true);
        let now = Timestamp::from_millis(1);
        let event = Event::about_app(AppName::default(), EventType::Test, None, now);
        let publish = || {
            let publication = subscribers.publication(&event);
            subscribers.published(7, &publication.endpoints, &publication.dropped);
            publication
        };
        let published = publish();
        assert_eq!(published.endpoints, ["alerts"]);
        assert_eq!(published.dropped, ["crm"]);
        assert_eq!((crm.take_dropped(), crm.take_dropped()), (1, 0));
        assert_eq!(alerts.take_dropped(), 0);
        assert_eq!(alerts.take_partitions(), [7]);
        assert!(crm.take_partitions().is_empty());
        crm.set_full(false);
        assert_eq!(publish().endpoints, ["crm", "alerts"]);
        assert_eq!(crm.take_partitions(), [7]);
    }
}
