//! Tells whether this process should be sent work. Each part that has to start first gets a gate. The process is
//! ready while every gate is open. A part that fails or panics drops its gate, and a dropped gate stays closed. So
//! readiness fails closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::locks::lock;

/// The gates of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Entry>>>,
}

/// One condition of readiness. It is closed at first, and must be kept as long as it should be open.
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
    /// Why it is closed, if its owner gave a reason.
    reason: Mutex<Option<String>>,
}

impl State {
    fn set(&self, open: bool, reason: Option<String>) {
        *lock(&self.reason) = reason;
        self.open.store(open, Ordering::Release);
    }
}

impl Readiness {
    /// Without gates the process is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a closed gate. Create all gates before `/readyz` is served.
    pub fn gate(&self, name: &'static str) -> Gate {
        let state = Arc::new(State::default());
        let entry = Entry {
            name,
            state: Arc::clone(&state),
        };
        lock(&self.gates).push(entry);
        Gate { state }
    }

    /// The names of the closed gates, each with its reason if there is one. Empty if the process is ready.
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
    /// Opens it.
    pub fn open(&self) {
        self.state.set(true, None);
    }

    /// Closes it without a reason.
    pub fn close(&self) {
        self.state.set(false, None);
    }

    /// Closes it with a reason that `/readyz` shows.
    pub fn close_because(&self, reason: impl Into<String>) {
        self.state.set(false, Some(reason.into()));
    }
}

/// Closes it for ever. Its reason stays.
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
    fn dropped_gate_stays_closed() {
        let readiness = Readiness::new();
        drop(readiness.gate("never opened"));
        let opened = readiness.gate("opened");
        opened.open();
        drop(opened);
        assert_eq!(readiness.waiting_for(), ["never opened", "opened"]);
    }

    #[test]
    fn closed_gate_shows_its_reason_until_it_opens() {
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
    fn panicking_owner_closes_its_gate() {
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
