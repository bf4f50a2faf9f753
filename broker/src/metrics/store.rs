//! Metrics of the places that hold a broker's state: the store, the lock nodes, and its files.

use std::collections::BTreeMap;
use std::time::Duration;

use ::store::Timestamp;
use ::store::metrics::ERRORS as STORE_ERRORS;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use service::shutdown::Shutdown;
use store_writer::check::{Finding, Reason, Severity};
use store_writer::lock_nodes::Health;
use store_writer::{Journal, LockNodes};
use tokio::time::sleep;

use super::fleet::seconds;

const ESCROW_MISSED: &str = "evergreen_escrow_missed_total";
const RESTORED: &str = "evergreen_restored_answers_total";
const FILE_READY: &str = "evergreen_file_ready";
const STORE_UNSAFE: &str = "evergreen_store_unsafe";
const STORE_DEGRADED: &str = "evergreen_store_degraded";
const LOCK_NODES: &str = "evergreen_lock_nodes";
const JOURNAL_ENTRIES: &str = "evergreen_journal_entries";
const JOURNAL_OLDEST: &str = "evergreen_journal_oldest_timestamp_seconds";

/// How often the journal is counted.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn describe() {
    // Whole steps of a broker that the store has stopped. Requests are counted by the store's own code.
    for operation in ["schedule", "refresh"] {
        counter!(STORE_ERRORS, "operation" => operation).absolute(0);
    }
    describe_counter!(
        ESCROW_MISSED,
        "Responses of GHL that no majority of the lock nodes took into escrow"
    );
    counter!(ESCROW_MISSED).absolute(0);
    describe_counter!(
        RESTORED,
        "Tokens that the store had confirmed and lost, and that this broker restored"
    );
    counter!(RESTORED).absolute(0);
    describe_gauge!(
        STORE_UNSAFE,
        "1 while the store would lose tokens for this reason"
    );
    describe_gauge!(
        STORE_DEGRADED,
        "1 while the store could be safer in this respect"
    );
    store_findings(&[]);
    describe_gauge!(
        FILE_READY,
        "1 while the file can take another response of GHL"
    );
    describe_gauge!(LOCK_NODES, "Lock nodes, by state");
    for state in Health::STATES {
        gauge!(LOCK_NODES, "state" => state).set(0.0);
    }
    describe_gauge!(
        JOURNAL_ENTRIES,
        "Attempts and consents in the journal that have not ended"
    );
    gauge!(JOURNAL_ENTRIES).set(0.0);
    describe_gauge!(
        JOURNAL_OLDEST,
        Unit::Seconds,
        "Since when the oldest of them is there, or this process runs"
    );
}

pub(crate) fn store_error(operation: &'static str) {
    counter!(STORE_ERRORS, "operation" => operation).increment(1);
}

/// Sets the gauges for the findings of the last check of the store.
pub(crate) fn store_findings(findings: &[Finding]) {
    for reason in Reason::ALL {
        for (name, severity) in [
            (STORE_UNSAFE, Severity::Unsafe),
            (STORE_DEGRADED, Severity::Degraded),
        ] {
            let is_found = findings
                .iter()
                .any(|finding| (finding.reason, finding.severity) == (reason, severity));
            gauge!(name, "reason" => reason.as_str()).set(if is_found { 1.0 } else { 0.0 });
        }
    }
}

pub(crate) fn file_ready(file: &'static str, is_ready: bool) {
    gauge!(FILE_READY, "file" => file).set(if is_ready { 1.0 } else { 0.0 });
}

pub(crate) fn escrow_missed() {
    counter!(ESCROW_MISSED).increment(1);
}

pub(crate) fn restored() {
    counter!(RESTORED).increment(1);
}

/// Reports the state of the lock nodes every second until shutdown.
pub(crate) async fn watch_lock_nodes(nodes: LockNodes, shutdown: Shutdown) {
    loop {
        let health = nodes.health();
        for state in Health::STATES {
            let count = health.iter().filter(|(_, node)| node.as_str() == state);
            let count = u32::try_from(count.count()).unwrap_or(u32::MAX);
            gauge!(LOCK_NODES, "state" => state).set(f64::from(count));
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Reports how many entries of the journal have not ended, until shutdown.
pub(crate) async fn watch_journal(journal: Journal, shutdown: Shutdown) {
    let mut seen = BTreeMap::new();
    loop {
        // A journal that cannot be read closes its gate.
        if let Ok(open) = journal.open_keys() {
            note_open(&mut seen, open, journal.now());
            gauge!(JOURNAL_ENTRIES).set(f64::from(u32::try_from(seen.len()).unwrap_or(u32::MAX)));
            gauge!(JOURNAL_OLDEST).set(seconds(seen.values().min().copied()));
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(JOURNAL_INTERVAL) => {}
        }
    }
}

/// Keeps in `seen` when each of the open entries was seen first.
fn note_open(seen: &mut BTreeMap<String, Timestamp>, open: Vec<String>, now: Timestamp) {
    let mut next: BTreeMap<String, Timestamp> = BTreeMap::new();
    for key in open {
        let since = seen.get(&key).copied().unwrap_or(now);
        next.insert(key, since);
    }
    *seen = next;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_entry_is_the_one_that_was_seen_first_and_is_still_open() {
        let at = Timestamp::from_millis;
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let mut seen = BTreeMap::new();
        note_open(&mut seen, keys(&["a"]), at(1));
        note_open(&mut seen, keys(&["a", "b"]), at(2));
        assert_eq!(seen.values().min(), Some(&at(1)));
        note_open(&mut seen, keys(&["b"]), at(3));
        assert_eq!(seen.values().min(), Some(&at(2)));
        note_open(&mut seen, keys(&[]), at(4));
        assert_eq!(seen.values().min(), None);
    }
}
