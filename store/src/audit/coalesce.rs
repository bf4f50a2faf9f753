//! Makes one event of equal ones within a minute, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::EntryId;
use super::event::{Delivered, Event, Happened};
use crate::caller::KeyHash;
use crate::clock::Timestamp;
use crate::id::InstallationId;

/// For how long equal events are one.
const WINDOW: Duration = Duration::from_secs(60);

/// The addresses that an event names.
const MOST_ADDRESSES: usize = 8;

/// The addresses of strangers that have events of their own within a minute. The others share one for each kind.
const MOST_STRANGERS: usize = 30;

/// Events with the same subject are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The kind of event.
    pub happened: Happened,
    /// The key of the caller, if it is or was one.
    pub key: Option<KeyHash>,
    /// The installation. Only one that exists: a caller may make up names.
    pub installation: Option<InstallationId>,
}

/// The result of noting an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is the first of its kind.
    New,
    /// It was added to an equal one.
    Counted,
    /// There are too many different ones. It is lost.
    Dropped,
}

/// Events of the last minute.
#[derive(Debug)]
pub struct Coalescer {
    open: HashMap<(Subject, Option<IpAddr>), Open>,
    /// How many of them are about strangers with an address of their own.
    strangers: usize,
    most: usize,
}

#[derive(Debug)]
struct Open {
    event: Event,
    since: Instant,
}

impl Coalescer {
    /// Of at most this many different events a minute.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            open: HashMap::new(),
            strangers: 0,
            most,
        }
    }

    /// Notes an event at the store's time `at`.
    pub fn note(&mut self, subject: Subject, from: IpAddr, at: Timestamp, now: Instant) -> Noted {
        // Strangers are told apart by their address, and owners of a key by it.
        let mut stranger = subject.key.is_none().then_some(from);
        let is_known = |stranger| self.open.contains_key(&(subject.clone(), stranger));
        if stranger.is_some() && self.strangers >= MOST_STRANGERS && !is_known(stranger) {
            stranger = None;
        }
        // An event of all other strangers together names no address.
        let has_address = subject.key.is_some() || stranger.is_some();
        let is_full = self.open.len() >= self.most;
        match self.open.entry((subject, stranger)) {
            Slot::Occupied(mut open) => {
                open.get_mut().add(from, has_address);
                Noted::Counted
            }
            Slot::Vacant(_) if is_full => Noted::Dropped,
            Slot::Vacant(place) => {
                let (subject, _) = place.key().clone();
                place.insert(Open {
                    event: Event {
                        id: EntryId::random(),
                        at,
                        happened: subject.happened,
                        key: subject.key,
                        installation: subject.installation,
                        addresses: has_address.then_some(from).into_iter().collect(),
                        count: 1,
                        delivered: None,
                    },
                    since: now,
                });
                self.strangers += usize::from(stranger.is_some());
                Noted::New
            }
        }
    }

    /// The events to deliver: new ones at once, and again at the end of their minute if they were counted up.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        let mut due = Vec::new();
        self.open.retain(|(_, stranger), open| {
            let is_over = now.duration_since(open.since) >= WINDOW;
            if is_over || open.event.delivered.is_none() {
                due.extend(open.take());
            }
            if is_over {
                self.strangers -= usize::from(stranger.is_some());
            }
            !is_over
        });
        due
    }

    /// All events that were not delivered as they are now. Nothing is left.
    pub fn close(&mut self) -> Vec<Event> {
        self.strangers = 0;
        let open = mem::take(&mut self.open).into_values();
        open.filter_map(|mut open| open.take()).collect()
    }

    /// Whether there is nothing to deliver, now or later.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Open {
    fn add(&mut self, from: IpAddr, has_address: bool) {
        let Event {
            addresses, count, ..
        } = &mut self.event;
        *count += 1;
        if has_address && addresses.len() < MOST_ADDRESSES && !addresses.contains(&from) {
            addresses.push(from);
        }
    }

    /// The event, unless it was delivered as it is.
    fn take(&mut self) -> Option<Event> {
        let now = Delivered {
            count: self.event.count,
            addresses: self.event.addresses.len(),
        };
        if self.event.delivered == Some(now) {
            return None;
        }
        let event = self.event.clone();
        self.event.delivered = Some(now);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::Refusal;

    fn fetched(key: &str, id: &InstallationId) -> Subject {
        Subject {
            happened: Happened::TokenFetched,
            key: Some(KeyHash::of(key)),
            installation: Some(id.clone()),
        }
    }

    fn refused() -> Subject {
        Subject {
            happened: Happened::TokenRefused(Refusal::KeyMissing),
            key: None,
            installation: None,
        }
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    const AT: Timestamp = Timestamp::from_millis(1000);

    #[test]
    fn equal_events_of_a_minute_are_one_with_a_count() {
        let (mut all, start) = (Coalescer::new(10), Instant::now());
        let (one, two) = (InstallationId::random(), InstallationId::random());
        assert_eq!(
            all.note(fetched("a", &one), address(1), AT, start),
            Noted::New
        );
        let first = all.due(start);
        assert_eq!((first.len(), first[0].count), (1, 1));
        assert_eq!(first[0].before(), None);
        for last in [1, 2, 1] {
            let noted = all.note(fetched("a", &one), address(last), AT, start);
            assert_eq!(noted, Noted::Counted);
        }
        for other in [fetched("b", &one), fetched("a", &two)] {
            assert_eq!(all.note(other, address(1), AT, start), Noted::New);
        }
        assert_eq!(all.due(start).len(), 2, "only the new ones");

        let whole = all.due(start + WINDOW);
        assert_eq!(whole.len(), 1, "the others were delivered as they are");
        assert_eq!(whole[0].id, first[0].id);
        assert_eq!(whole[0].count, 4);
        assert_eq!(whole[0].addresses, [address(1), address(2)]);
        assert_eq!(whole[0].before().as_ref(), Some(&first[0]));
        assert!(all.is_empty());
        let noted = all.note(fetched("a", &one), address(1), AT, start + WINDOW);
        assert_eq!(noted, Noted::New);
    }

    #[test]
    fn closing_delivers_what_was_not_delivered() {
        let (mut all, start) = (Coalescer::new(10), Instant::now());
        let id = InstallationId::random();
        all.note(fetched("a", &id), address(1), AT, start);
        all.due(start);
        assert!(all.close().is_empty(), "delivered as it is");
        all.note(fetched("a", &id), address(1), AT, start);
        all.due(start);
        all.note(fetched("a", &id), address(1), AT, start);
        let left = all.close();
        assert_eq!((left.len(), left[0].count), (1, 2));
        assert!(all.is_empty());
    }

    #[test]
    fn number_of_events_and_addresses_is_bounded() {
        let (mut all, start) = (Coalescer::new(2), Instant::now());
        let id = InstallationId::random();
        for key in ["a", "b"] {
            assert_eq!(
                all.note(fetched(key, &id), address(1), AT, start),
                Noted::New
            );
        }
        let noted = all.note(fetched("c", &id), address(1), AT, start);
        assert_eq!(noted, Noted::Dropped);
        for last in 1..=100 {
            let noted = all.note(fetched("a", &id), address(last), AT, start);
            assert_eq!(noted, Noted::Counted);
        }
        let events = all.close();
        let most = events.iter().map(|event| event.addresses.len()).max();
        assert_eq!(most, Some(MOST_ADDRESSES));
    }

    #[test]
    fn many_strangers_share_one_event() {
        let (mut all, start) = (Coalescer::new(10_000), Instant::now());
        for round in 0..3 {
            for last in 0..=u8::MAX {
                all.note(refused(), address(last), AT, start);
            }
            assert_eq!(all.open.len(), MOST_STRANGERS + 1, "round {round}");
        }
        let events = all.due(start);
        let counted: u64 = events.iter().map(|event| event.count).sum();
        assert_eq!(counted, 3 * 256);
        let others: Vec<_> = events.iter().filter(|it| it.addresses.is_empty()).collect();
        assert_eq!(others.len(), 1);
        all.due(start + WINDOW);
        assert_eq!(all.strangers, 0);
    }
}
