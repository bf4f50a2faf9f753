//! The background task that polls the store's identity and prunes the journal.

use std::sync::Arc;
use std::time::Duration;

use service::shutdown::Shutdown;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::refresh::store_watch::Unverified;
use crate::refresh::worker::Worker;

/// How often the store is asked for its identity.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown) {
    let mut pruned_at: Option<Instant> = None;
    let mut is_away = false;
    loop {
        match worker.watch.poll().await {
            Ok(()) => is_away = false,
            Err(Unverified::Journal(error)) => return worker.stop_on_journal_error(&error),
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the identity of the store cannot be read"
                    );
                }
            }
        }
        if pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_INTERVAL) {
            pruned_at = Some(Instant::now());
            if let Err(error) = worker.journal.prune(worker.journal.now()).await {
                return worker.stop_on_journal_error(&error);
            }
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(POLL_INTERVAL) => {}
        }
    }
}
