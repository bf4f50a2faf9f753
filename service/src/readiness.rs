//! Tells whether this process should be sent work. Each condition has a gate. The process is ready while every gate
//! is open and it is not stopping. A gate may close and open again at any time.
//!
//! Readiness fails closed: a gate is closed at first, and a part that fails or panics drops its gate, which then stays
//! closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Gauge, describe_gauge, gauge};

use crate::locks::lock;

/// Why a process is not ready from the beginning of its shutdown on.
const STOPPING: &str = "stopping";
const STOPPING_MESSAGE: &str = "this process was told to stop: send new requests to another one";
const DROPPED: &str =
    "a part of this process has ended unexpectedly: look at its log, and restart it";

/// 1 while a process is not ready for this reason.
const UNREADY: &str = "evergreen_unready";

/// The gates of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Entry>>>,
    stopping_since: Arc<Mutex<Option<Instant>>>,
}

/// One condition of readiness. It is closed at first, and must be kept as long as it should be open.
#[derive(Debug)]
#[must_use = "a dropped gate never opens"]
pub struct Gate {
    state: Arc<State>,
}

/// Why a process is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One word, the same in every version.
    pub name: &'static str,
    /// For how long it has been so.
    pub lasts: Duration,
    /// The fault, and what to do about it.
    pub message: String,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    unready: Gauge,
    /// `None` while the gate is open.
    closed: Mutex<Option<Closed>>,
    is_dropped: AtomicBool,
}

#[derive(Debug)]
struct Closed {
    since: Instant,
    message: String,
}

impl Readiness {
    /// Without gates the process is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a closed gate. `message`: what the process waits for at first. Create all gates before `/readyz` is served.
    pub fn gate(&self, name: &'static str, message: impl Into<String>) -> Gate {
        let closed = Closed {
            since: Instant::now(),
            message: message.into(),
        };
        describe_gauge!(UNREADY, "1 while the process is not ready for this reason");
        let unready = gauge!(UNREADY, "reason" => name);
        unready.set(1.0);
        let state = Arc::new(State {
            unready,
            closed: Mutex::new(Some(closed)),
            is_dropped: AtomicBool::new(false),
        });
        let entry = Entry {
            name,
            state: Arc::clone(&state),
        };
        lock(&self.gates).push(entry);
        Gate { state }
    }

    /// Closes for ever, because the process stops. A second call changes nothing.
    pub fn stop(&self) {
        lock(&self.stopping_since).get_or_insert_with(Instant::now);
        gauge!(UNREADY, "reason" => STOPPING).set(1.0);
    }

    /// Why the process is not ready. Empty if it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let stopping_since = *lock(&self.stopping_since);
        let stopping = stopping_since.map(|since| Reason {
            name: STOPPING,
            lasts: since.elapsed(),
            message: STOPPING_MESSAGE.to_owned(),
        });
        let gates = lock(&self.gates);
        // Parts that end with the process are no news.
        let gates = gates
            .iter()
            .filter(|entry| stopping.is_none() || !entry.state.is_dropped.load(Ordering::Acquire));
        let closed = gates.filter_map(Entry::reason);
        stopping.clone().into_iter().chain(closed).collect()
    }
}

impl Entry {
    fn reason(&self) -> Option<Reason> {
        let closed = lock(&self.state.closed);
        closed.as_ref().map(|closed| Reason {
            name: self.name,
            lasts: closed.since.elapsed(),
            message: closed.message.clone(),
        })
    }
}

impl Gate {
    /// Opens it.
    pub fn open(&self) {
        let mut closed = lock(&self.state.closed);
        *closed = None;
        // Under the lock, so that the last change counts.
        self.state.unready.set(0.0);
    }

    /// Closes it. `message`: what is wrong, and what to do about it.
    pub fn close(&self, message: impl Into<String>) {
        let mut closed = lock(&self.state.closed);
        let since = closed
            .as_ref()
            .map_or_else(Instant::now, |former| former.since);
        *closed = Some(Closed {
            since,
            message: message.into(),
        });
        self.state.unready.set(1.0);
    }

    /// Closes it with a reason, or opens it without one.
    pub fn set(&self, reason: Option<String>) {
        match reason {
            Some(message) => self.close(message),
            None => self.open(),
        }
    }

    fn is_open(&self) -> bool {
        lock(&self.state.closed).is_none()
    }
}

/// Closes it for ever. A message that it has stays.
impl Drop for Gate {
    fn drop(&mut self) {
        if self.is_open() {
            self.close(DROPPED);
        }
        self.state.is_dropped.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(readiness: &Readiness) -> Vec<&'static str> {
        let reasons = readiness.reasons().into_iter();
        reasons.map(|reason| reason.name).collect()
    }

    #[test]
    fn ready_while_every_gate_is_open() {
        let readiness = Readiness::new();
        let store = readiness.gate("store", "not asked yet");
        let journal = readiness.gate("journal", "not opened yet");
        assert_eq!(names(&readiness), ["store", "journal"]);
        store.open();
        assert_eq!(names(&readiness.clone()), ["journal"]);
        journal.open();
        assert!(readiness.reasons().is_empty());
        store.set(Some("it does not answer".to_owned()));
        assert_eq!(names(&readiness), ["store"]);
        store.set(None);
        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn dropped_gate_stays_closed() {
        let readiness = Readiness::new();
        drop(readiness.gate("never opened", "not yet"));
        let opened = readiness.gate("opened", "not yet");
        opened.open();
        drop(opened);
        let reasons = readiness.reasons();
        let messages: Vec<_> = reasons.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(messages, ["not yet", DROPPED]);
    }

    #[test]
    fn message_may_change_while_the_gate_stays_closed() {
        let readiness = Readiness::new();
        let disk = readiness.gate("disk", "not looked at yet");
        disk.close("it is full");
        let first = readiness.reasons().remove(0);
        assert_eq!(first.message, "it is full");
        disk.close("it failed");
        let second = readiness.reasons().remove(0);
        assert_eq!(second.message, "it failed");
        assert!(second.lasts >= first.lasts);
    }

    #[test]
    fn panicking_owner_closes_its_gate() {
        let readiness = Readiness::new();
        let gate = readiness.gate("worker", "not started yet");
        gate.open();
        let worker = std::thread::spawn(move || {
            let _held = gate;
            panic!("on purpose");
        });
        assert!(worker.join().is_err());
        assert_eq!(names(&readiness), ["worker"]);
    }

    #[test]
    fn stopping_process_is_not_ready_and_does_not_name_parts_that_have_ended() {
        let readiness = Readiness::new();
        let store = readiness.gate("store", "not asked yet");
        let _journal = readiness.gate("journal", "not opened yet");
        store.open();
        readiness.stop();
        assert_eq!(names(&readiness), ["stopping", "journal"]);
        drop(store);
        assert_eq!(names(&readiness), ["stopping", "journal"]);
    }
}
