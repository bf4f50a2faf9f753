//! Whether this process should be sent work. Each part that has to come up first is handed a
//! gate; the process is ready while every gate is open. A part that fails or panics drops its
//! gate, and a dropped gate stays closed: readiness fails closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The gates of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Entry>>>,
}

/// One thing to wait for, closed at first. It has to be kept for as long as it should be open.
#[derive(Debug)]
#[must_use = "a dropped gate never opens"]
pub struct Gate {
    open: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    open: Arc<AtomicBool>,
}

impl Readiness {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new, closed gate. Take all of them before the first request can ask for readiness.
    pub fn gate(&self, name: &'static str) -> Gate {
        let open = Arc::new(AtomicBool::new(false));
        let entry = Entry {
            name,
            open: Arc::clone(&open),
        };
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
        Gate { open }
    }

    /// The names of the closed gates; empty means ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = gates
            .iter()
            .filter(|entry| !entry.open.load(Ordering::Acquire));
        closed.map(|entry| entry.name).collect()
    }
}

impl Gate {
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
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
