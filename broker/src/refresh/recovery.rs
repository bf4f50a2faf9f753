//! Finishes attempts that a crash or an unreachable store has interrupted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use service::shutdown::Shutdown;
use store_writer::WriteError;
use store_writer::group_commit_db::DbError;
use store_writer::journal::Entry;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::audit::{self, Audit};
use crate::refresh::worker::Worker;

const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Loads what an earlier process left in the journal. Call it before this process writes to the journal.
///
/// Responses go to the worker, which commits them before it touches their installations. Returns the
/// attempts without a response.
///
/// # Errors
/// If the journal cannot be read. It may hold responses.
pub(crate) fn load_journal(worker: &Worker) -> Result<Vec<Entry>, DbError> {
    let mut unanswered = Vec::new();
    for entry in worker.journal.unfinished()? {
        match entry {
            Ok(entry) if entry.answer.is_some() => worker.queue_commit(entry),
            Ok(entry) => unanswered.push(entry),
            Err(key) => error!(key, "a journal entry cannot be read and is left in place"),
        }
    }
    Ok(unanswered)
}

/// Runs until shutdown. Commits responses that the store has not taken, and ends attempts of an earlier
/// process that got no response.
///
/// First ends the leases of the earlier process. Otherwise two crashes in a row would exceed GHL's grace
/// period of 30 s.
pub(crate) async fn run(
    worker: Arc<Worker>,
    audit: Arc<Audit>,
    mut unanswered: Vec<Entry>,
    shutdown: Shutdown,
) {
    join_all(unanswered.iter().map(|entry| worker.end_lease(entry))).await;
    loop {
        worker.recheck_recent_commits().await;
        for (consent, id) in worker.commit_pending_consents().await {
            audit.record(audit::connected(&consent, &id)).await;
        }
        for entry in worker.uncommitted() {
            // The process may have died between the journal and escrow.
            worker.keep_in_escrow(&entry).await;
            report(&worker, &entry, worker.commit_entry(&entry).await).await;
        }
        let mut remaining = Vec::new();
        for entry in unanswered {
            let ended = worker.abandon(&entry).await;
            if !report(&worker, &entry, ended).await {
                remaining.push(entry);
            }
        }
        unanswered = remaining;
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(RETRY_INTERVAL) => {}
        }
    }
}

/// Runs until shutdown. Commits responses that dead brokers left in escrow. Most are found when another
/// broker takes their installation over. This finds those that arrived later.
pub(crate) async fn sweep_escrow(worker: Arc<Worker>, shutdown: Shutdown) {
    let (mut seen, mut warned) = (BTreeSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(SWEEP_INTERVAL) => {}
        }
        // If lock nodes are unreachable, the next sweep tries again.
        let Ok(kept) = worker.escrow.installations().await else {
            continue;
        };
        // A new entry may still be in progress at the broker that wrote it.
        for id in kept.intersection(&seen) {
            let swept = worker.recover_from_escrow(id).await;
            if let Err(error) = swept
                && warned.insert(id.clone())
            {
                warn!(installation = %id, %error, "a response stays in escrow for now");
            }
        }
        warned.retain(|id| kept.contains(id));
        seen = kept;
    }
}

/// Logs the outcome for an entry. Returns whether the entry is finished.
async fn report(worker: &Worker, entry: &Entry, outcome: Result<(), WriteError>) -> bool {
    match outcome {
        Ok(()) => {
            info!(installation = %entry.installation, "an interrupted attempt is finished");
            // A response stays in the journal.
            if entry.answer.is_none() {
                worker.forget(entry).await;
            }
            true
        }
        // This may be the wrong store, so the response is kept.
        Err(
            error @ (WriteError::Unknown(_)
            | WriteError::Unreadable { .. }
            | WriteError::Unwritable { .. }),
        ) if entry.answer.is_some() => {
            worker.leave_in_journal(entry, &error);
            true
        }
        Err(WriteError::Unknown(id)) => {
            warn!(installation = %id, "the journal has an installation that the store does not know");
            worker.forget(entry).await;
            true
        }
        Err(error) => {
            warn!(installation = %entry.installation, error = &error as &dyn std::error::Error,
                "a journal entry could not be committed and is tried again");
            false
        }
    }
}
