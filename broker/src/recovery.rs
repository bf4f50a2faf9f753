//! Finishes what was cut short: at boot, and for ever after while the store comes and goes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use service::shutdown::Shutdown;
use store_writer::installation::IntentId;
use store_writer::journal::Entry;
use store_writer::writer::Committed;
use store_writer::{Grant, Journal, WriteError};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::worker::{Worker, log_refreshed};

const ROUND: Duration = Duration::from_secs(1);

/// What an earlier process left in the journal. Taken before this process writes to it.
pub(crate) fn inherited(journal: &Journal) -> HashSet<IntentId> {
    let entries = read(journal);
    entries.into_iter().map(|entry| entry.intent).collect()
}

/// Replays the journal until shutdown: what was inherited, and answers of this process that the
/// store would not take. An answer that is just on its way looks the same, so one of ours must be
/// seen twice before it is touched.
pub(crate) async fn run(worker: Arc<Worker>, mut inherited: HashSet<IntentId>, shutdown: Shutdown) {
    let mut seen: HashSet<IntentId> = HashSet::new();
    loop {
        let mut left = HashSet::new();
        for entry in read(&worker.journal) {
            let intent = entry.intent.clone();
            let is_stuck = entry.answer.is_some() && seen.contains(&intent);
            let is_ours = inherited.contains(&intent) || is_stuck;
            if is_ours && finish(&worker, &entry).await {
                inherited.remove(&intent);
            } else {
                left.insert(intent);
            }
        }
        seen = left;
        tokio::select! {
            () = shutdown.started() => return,
            () = sleep(ROUND) => {}
        }
    }
}

fn read(journal: &Journal) -> Vec<Entry> {
    let entries = journal.unfinished().unwrap_or_else(|error| {
        error!(%error, "the journal cannot be read");
        Vec::new()
    });
    let readable = entries.into_iter().filter_map(|entry| match entry {
        Ok(entry) => Some(entry),
        Err(key) => {
            error!(key, "a journal entry cannot be read and is left alone");
            None
        }
    });
    readable.collect()
}

/// Whether the entry needs no more attention.
async fn finish(worker: &Worker, entry: &Entry) -> bool {
    let finished = match &entry.answer {
        Some(_) => commit(worker, entry).await,
        None => take_over(worker, entry).await,
    };
    match finished {
        Ok(()) => {
            worker.forget(&entry.intent).await;
            true
        }
        Err(WriteError::Unknown(id)) => {
            warn!(installation = %id, "the journal knows an installation that the store does not");
            worker.forget(&entry.intent).await;
            true
        }
        Err(error) => {
            warn!(installation = %entry.installation, error = &error as &dyn std::error::Error,
                "a journal entry waits for the store");
            false
        }
    }
}

async fn commit(worker: &Worker, entry: &Entry) -> Result<(), WriteError> {
    let Some(sealed) = &entry.answer else {
        return Ok(());
    };
    let id = &entry.installation;
    let ring = &worker.writer.rings().refresh;
    let grant = Grant::open(id, entry.spent_generation, sealed, ring).map_err(|source| {
        WriteError::Unreadable {
            id: id.clone(),
            source,
        }
    })?;
    let committed = worker.writer.commit(&grant).await?;
    info!(installation = %id, ?committed, "an answer from the journal reached the store");
    if let Committed::Applied { .. } = committed {
        log_refreshed(id, &grant);
    }
    Ok(())
}

/// Asked, and no answer on the disk: the token may be spent. Asked again at once, GHL repeats its
/// answer.
async fn take_over(worker: &Worker, entry: &Entry) -> Result<(), WriteError> {
    worker.abandon(entry.intent.clone());
    let Some(snapshot) = worker.writer.load(&entry.installation).await? else {
        return Ok(());
    };
    let open = snapshot.installation.intent.as_ref();
    if open.is_some_and(|open| open.id == entry.intent) {
        info!(installation = %entry.installation, "an attempt was cut short: it is repeated at once");
        worker
            .writer
            .defer(&entry.installation, snapshot.now)
            .await?;
    }
    Ok(())
}
