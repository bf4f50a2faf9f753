//! Finishes what was cut short: at boot, and for ever after while the store comes and goes.

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

use crate::worker::Worker;

const ROUND: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(10);

/// Takes over what an earlier process left in the journal, before this one writes to it: answers go
/// to the worker, which commits them before it touches their installations, and attempts without
/// one are returned.
///
/// # Errors
/// When the journal cannot be read: there may be answers in it.
pub(crate) fn inherit(worker: &Worker) -> Result<Vec<Entry>, DbError> {
    let mut asked = Vec::new();
    for entry in worker.journal.unfinished()? {
        match entry {
            Ok(entry) if entry.answer.is_some() => worker.keep_waiting(entry),
            Ok(entry) => asked.push(entry),
            Err(key) => error!(key, "a journal entry cannot be read and is left alone"),
        }
    }
    Ok(asked)
}

/// Ends the leases of an earlier process: who crashes twice would else come too late for GHL's grace.
/// Until shutdown, commits answers that wait for the store, and ends the attempts of an earlier
/// process that got none.
pub(crate) async fn run(worker: Arc<Worker>, mut asked: Vec<Entry>, shutdown: Shutdown) {
    join_all(asked.iter().map(|entry| worker.end_lease(entry))).await;
    loop {
        worker.look_again().await;
        worker.bring_consents().await;
        for entry in worker.waiting() {
            // The process that journaled it may have died before it got further.
            worker.keep_in_escrow(&entry).await;
            finish(&worker, &entry, worker.commit_entry(&entry).await).await;
        }
        let mut left = Vec::new();
        for entry in asked {
            let ended = worker.abandon(&entry).await;
            if !finish(&worker, &entry, ended).await {
                left.push(entry);
            }
        }
        asked = left;
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(ROUND) => {}
        }
    }
}

/// Until shutdown: brings to the store what brokers that are gone have left in escrow. Most of it is
/// found when its installation is taken over; what came too late for that is found here.
pub(crate) async fn sweep(worker: Arc<Worker>, shutdown: Shutdown) {
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(SWEEP) => {}
        }
        // When lock nodes are away, they are looked at again.
        let Ok(kept) = worker.escrow.installations().await else {
            continue;
        };
        // What is new may be in the hands of whoever put it there.
        for id in kept.intersection(&seen) {
            let swept = worker.rescue(id).await;
            if let Err(error) = swept
                && told.insert(id.clone())
            {
                warn!(installation = %id, %error, "an answer stays in escrow for now");
            }
        }
        told.retain(|id| kept.contains(id));
        seen = kept;
    }
}

/// Whether the entry needs no more attention.
async fn finish(worker: &Worker, entry: &Entry, outcome: Result<(), WriteError>) -> bool {
    match outcome {
        Ok(()) => {
            info!(installation = %entry.installation, "an attempt that was cut short is dealt with");
            // An answer is kept.
            if entry.answer.is_none() {
                worker.forget(entry).await;
            }
            true
        }
        // Perhaps this is not the right store. An answer is not dropped for that.
        Err(
            error @ (WriteError::Unknown(_)
            | WriteError::Unreadable { .. }
            | WriteError::Unwritable { .. }),
        ) if entry.answer.is_some() => {
            worker.leave(entry, &error);
            true
        }
        Err(WriteError::Unknown(id)) => {
            warn!(installation = %id, "the journal knows an installation that the store does not");
            worker.forget(entry).await;
            true
        }
        Err(error) => {
            warn!(installation = %entry.installation, error = &error as &dyn std::error::Error,
                "a journal entry waits for the store");
            false
        }
    }
}
