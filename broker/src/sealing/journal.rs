//! Seals the answers in this broker's journal with the first refresh key, so that an older key can be removed.

use std::sync::Arc;
use std::time::Duration;

use service::shutdown::Shutdown;
use store_writer::group_commit_db::DbError;
use store_writer::journal::JournalKeysError;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use tracing::info;

use crate::refresh::worker::Worker;

/// How many answers one write seals anew. Other writes wait for the disk meanwhile.
const PAGE_SIZE: usize = 64;
/// Between two pages: a third of what the disk of a small machine takes.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the sealing rings of this process have changed. Held while they change, and while the journal is sealed
/// anew: else its note of the keys that it needs could leave out one of them.
#[derive(Debug, Default)]
pub(crate) struct RingChanges(Mutex<u64>);

impl RingChanges {
    pub(crate) async fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().await
    }
}

/// Runs after the start and after each change of the rings, in the background: the confirmed answers may take a
/// gigabyte. Later answers are sealed with the first key.
///
/// `change`: the number of the change. A later one has a run of its own, which does the work of both.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown, change: u64) {
    let changes = worker.ring_changes.lock().await;
    if *changes == change
        && let Err(error) = reseal(&worker, &shutdown).await
    {
        worker.stop_on_journal_error(&error);
    }
}

async fn reseal(worker: &Worker, shutdown: &Shutdown) -> Result<(), DbError> {
    let (journal, ring) = (&worker.journal, worker.writer.rings().refresh.clone());
    // An attempt may have sealed an answer with the former key after the rings were checked.
    match journal.prepare_keys(&ring).await {
        // The next reload, or the next start, says so.
        Ok(()) | Err(JournalKeysError::Missing(_)) => {}
        Err(JournalKeysError::Disk(error)) => return Err(error),
    }
    if journal.is_sealed_with_first_key(&ring)? {
        return Ok(());
    }
    let (mut cursor, mut resealed) = (None, 0);
    loop {
        let page = journal.reseal_confirmed(&ring, cursor.as_ref(), PAGE_SIZE);
        let page = page.await?;
        resealed += page.resealed;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return Ok(()),
            () = sleep(PAUSE) => {}
        }
    }
    let left = journal.record_sealing_keys(&ring).await?;
    if resealed > 0 {
        let key = ring.first_id();
        info!(
            resealed,
            key,
            ?left,
            "the journal is sealed with the first refresh key"
        );
    }
    Ok(())
}
