//! Whether this process should be sent work. Each part that has to come up first is handed a
//! gate; the process is ready while every gate is open. A part that fails or panics drops its
//! gate, and a dropped gate stays closed: readiness fails closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::locks::lock;

/// The gates of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Entry>>>,
}

/// One thing to wait for, closed at first. It has to be kept for as long as it should be open.
#[derive(Debug)]
#[must_use = "a dropped gate never opens"]
pub struct Gate {
    state: Arc<State>,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    open: AtomicBool,
    /// Why it is closed, where its owner said so.
    reason: Mutex<Option<String>>,
}

impl State {
    fn set(&self, open: bool, reason: Option<String>) {
        *lock(&self.reason) = reason;
        self.open.store(open, Ordering::Release);
    }
}

impl Readiness {
    /// Without gates: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new, closed gate. Take all of them before the first request can ask for readiness.
    pub fn gate(&self, name: &'static str) -> Gate {
        let state = Arc::new(State::default());
        let entry = Entry {
            name,
            state: Arc::clone(&state),
        };
        lock(&self.gates).push(entry);
        Gate { state }
    }

    /// The names of the closed gates, each with the reason if there is one; empty means ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let gates = lock(&self.gates);
        let closed = gates
            .iter()
            .filter(|entry| !entry.state.open.load(Ordering::Acquire));
        closed.map(Entry::describe).collect()
    }
}

impl Entry {
    fn describe(&self) -> String {
        let reason = &self.state.reason;
        match &*lock(reason) {
            Some(reason) => format!("{}: {reason}", self.name),
            None => self.name.to_owned(),
        }
    }
}

impl Gate {
    /// Opens it: the process no longer waits for this.
    pub fn open(&self) {
        self.state.set(true, None);
    }

    /// Closes it without a reason.
    pub fn close(&self) {
        self.state.set(false, None);
    }

    /// Closes it, and `/readyz` tells the reason.
    pub fn close_because(&self, reason: impl Into<String>) {
        self.state.set(false, Some(reason.into()));
    }
}

/// Closes it for good; a reason that was given stays.
impl Drop for Gate {
    fn drop(&mut self) {
        self.state.open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_while_every_gate_is_open() {
        let readiness = Readiness::new();
        let store = readiness.gate("store");
        let journal = readiness.gate("journal");
        assert_eq!(readiness.waiting_for(), ["store", "journal"]);
        store.open();
        assert_eq!(readiness.clone().waiting_for(), ["journal"]);
        journal.open();
        assert!(readiness.waiting_for().is_empty());
        store.close();
        assert_eq!(readiness.waiting_for(), ["store"]);
    }

    #[test]
    fn a_dropped_gate_stays_closed() {
        let readiness = Readiness::new();
        drop(readiness.gate("never opened"));
        let opened = readiness.gate("opened");
        opened.open();
        drop(opened);
        assert_eq!(readiness.waiting_for(), ["never opened", "opened"]);
    }

    #[test]
    fn a_closed_gate_tells_its_reason_until_it_opens() {
        let readiness = Readiness::new();
        let disk = readiness.gate("the disk");
        disk.close_because("it is full");
        assert_eq!(readiness.waiting_for(), ["the disk: it is full"]);
        disk.open();
        disk.close();
        assert_eq!(readiness.waiting_for(), ["the disk"]);
        disk.close_because("it failed");
        drop(disk);
        assert_eq!(readiness.waiting_for(), ["the disk: it failed"]);
    }

    #[test]
    fn a_panicking_owner_closes_its_gate() {
        let readiness = Readiness::new();
        let gate = readiness.gate("worker");
        gate.open();
        let worker = std::thread::spawn(move || {
            let _held = gate;
            panic!("on purpose");
        });
        assert!(worker.join().is_err());
        assert_eq!(readiness.waiting_for(), ["worker"]);
    }
}
