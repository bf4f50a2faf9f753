//! Other sealing keys while the broker runs, after its settings were read again.

use std::time::Duration;

use store::key_list::RingKind;
use store_writer::Rings;
use store_writer::journal::JournalKeysError;
use store_writer::sealing::KeysError;
use tokio::time::sleep;

use super::journal;
use crate::Broker;

/// Why a broker does not use other rings.
#[derive(Debug, thiserror::Error)]
pub enum RingsError {
    /// They do not fit the store, or it does not answer.
    #[error("the sealing keys stay as they are")]
    Store(#[from] KeysError),
    /// They do not fit the journal.
    #[error("the sealing keys stay as they are")]
    Journal(#[from] JournalKeysError),
}

impl Broker {
    /// Checks that rings fit the store and the journal. Writes nothing.
    ///
    /// # Errors
    /// When a ring is wrong, the store is unavailable, or the disk fails.
    pub async fn check_rings(&self, next: &Rings) -> Result<(), RingsError> {
        if self.changed_rings(next).is_empty() {
            return Ok(());
        }
        let writer = self.0.writer.with_rings(next.clone());
        writer.check_keys().await?;
        self.0.worker.journal.check_keys(&next.refresh)?;
        Ok(())
    }

    /// Uses other rings from now on. Returns those that have changed.
    ///
    /// # Errors
    /// As [`Broker::check_rings`]. The rings seal as before then.
    pub async fn reload_rings(&self, next: &Rings) -> Result<Vec<RingKind>, RingsError> {
        let worker = &self.0.worker;
        // Waits while the journal is sealed anew after the change before.
        let mut changes = worker.ring_changes.lock().await;
        let changed = self.changed_rings(next);
        if changed.is_empty() {
            return Ok(changed);
        }
        self.check_rings(next).await?;
        let rings = self.0.writer.rings();
        // First this process can open all that the next rings seal, in its journal and in the store.
        for kind in &changed {
            let ring = rings.of(*kind);
            ring.replace(&ring.and_opens_as(next.of(*kind)));
        }
        worker.journal.prepare_keys(&next.refresh).await?;
        let writer = self.0.writer.with_rings(next.clone());
        writer.register_keys().await?;
        for kind in &changed {
            rings.of(*kind).replace(next.of(*kind));
        }
        *changes += 1;
        let change = *changes;
        let (worker, shutdown) = (worker.clone(), self.0.shutdown.clone());
        let lease = self.0.config.timing.lease;
        self.0.shutdown.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = sleep(until_written(lease)) => {}
            }
            journal::run(worker, shutdown, change).await;
        });
        Ok(changed)
    }

    fn changed_rings(&self, next: &Rings) -> Vec<RingKind> {
        let rings = self.0.writer.rings();
        let kinds = RingKind::ALL.into_iter();
        kinds
            .filter(|kind| !rings.of(*kind).is_same_as(next.of(*kind)))
            .collect()
    }
}

/// Until an answer that was sealed before the change is in the journal.
fn until_written(lease: Duration) -> Duration {
    2 * lease
}
