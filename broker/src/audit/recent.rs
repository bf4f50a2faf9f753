//! Events of the last minute that equal ones are counted with: refused requests, and keys for browsers.

use std::collections::HashMap;
use std::net::IpAddr;

use store::audit::{Coalescer, Event, Happened, Subject};
use store::{Caller, InstallationId, KeyHash, Timestamp};
use tokio::time::Instant;

/// The most different events in a minute. Strangers have far fewer refusals, so only owners of keys can reach it.
const MOST: usize = 4000;

/// Events of one kind, and the names of the keys they came with.
#[derive(Debug)]
pub(super) struct Recent {
    coalescer: Coalescer,
    names: HashMap<KeyHash, String>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            coalescer: Coalescer::new(MOST),
            names: HashMap::new(),
        }
    }

    pub(super) fn note(
        &mut self,
        happened: Happened,
        known: Option<(KeyHash, &Caller)>,
        installation: Option<InstallationId>,
        from: IpAddr,
        at: Timestamp,
    ) {
        let subject = Subject {
            happened,
            key: known.map(|(key, _)| key),
            installation,
        };
        self.coalescer.note(subject, from, at, Instant::now());
        if let Some((key, caller)) = known {
            self.names.insert(key, caller.name.clone());
        }
    }

    pub(super) fn due(&mut self) -> Vec<Event> {
        self.coalescer.due(Instant::now())
    }

    pub(super) fn close(&mut self) -> Vec<Event> {
        self.coalescer.close()
    }

    pub(super) fn names(&mut self) -> HashMap<KeyHash, String> {
        if self.coalescer.is_empty() {
            return std::mem::take(&mut self.names);
        }
        self.names.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.coalescer.is_empty()
    }
}
