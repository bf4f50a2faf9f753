//! Entries that the store has not taken yet, in bounded memory.

use std::collections::VecDeque;

use store_writer::writer::AuditRecord;
use tracing::error;

use crate::metrics;

/// As many as the store keeps.
const MOST: usize = store::audit::MOST_ENTRIES;
/// How many are written at once.
const BATCH: usize = 500;

/// Entries that wait for the store, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsaved(VecDeque<AuditRecord>);

impl Unsaved {
    /// Keeps entries. Those that do not fit are lost, are logged and counted.
    pub(super) fn keep(&mut self, records: impl IntoIterator<Item = AuditRecord>) {
        let mut records = records.into_iter();
        let room = MOST.saturating_sub(self.0.len());
        self.0.extend(records.by_ref().take(room));
        let lost = records.count();
        if lost > 0 {
            metrics::audit_lost("store", lost);
            error!(
                lost,
                "entries of the audit log are lost: the store takes none"
            );
        }
    }

    /// The oldest ones.
    pub(super) fn take(&mut self) -> Vec<AuditRecord> {
        let count = self.0.len().min(BATCH);
        self.0.drain(..count).collect()
    }

    /// Puts back what the store did not take.
    pub(super) fn put_back(&mut self, records: Vec<AuditRecord>) {
        for record in records.into_iter().rev() {
            self.0.push_front(record);
        }
    }

    /// Forgets everything. Returns how many are lost.
    pub(super) fn lose(&mut self) -> usize {
        let lost = std::mem::take(&mut self.0).len();
        metrics::audit_lost("store", lost);
        lost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use store::Timestamp;
    use store::audit::{Action, By, Entry};

    use super::*;

    fn record(at: i64) -> AuditRecord {
        let at = Timestamp::from_millis(at);
        Entry::new(at, Action::KeyCreated, By::Operator).into()
    }

    fn times(records: &[AuditRecord]) -> Vec<i64> {
        records.iter().map(|it| it.entry.at.as_millis()).collect()
    }

    #[test]
    fn entries_are_written_in_order_and_kept_up_to_a_bound() {
        let mut unsaved = Unsaved::default();
        let most = i64::try_from(MOST).unwrap();
        unsaved.keep((0..most + 5).map(record));
        assert_eq!(unsaved.0.len(), MOST, "the newest are lost");
        let first = unsaved.take();
        assert_eq!(
            (first.len(), times(&first)[..3].to_vec()),
            (BATCH, vec![0, 1, 2])
        );
        unsaved.put_back(first);
        assert_eq!(times(&unsaved.take())[..2], [0, 1]);
        assert_eq!(unsaved.lose(), MOST - BATCH);
        assert!(unsaved.is_empty());
    }
}
