//! Restores responses that the store has confirmed and lost.
//!
//! The responses in the journal are compared with the store, the newest first, and committed if the store
//! is behind. A commit is fenced by the token chain. So a response that the store has, or has superseded,
//! changes nothing, and two brokers may restore the same response.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use service::shutdown::Shutdown;
use store::Generation;
use store_writer::WriteError;
use store_writer::group_commit_db::DbError;
use store_writer::journal::Entry;
use store_writer::writer::{Begun, Committed};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::metrics;
use crate::refresh::store_watch::RestoreScope;
use crate::refresh::worker::Worker;

/// Concurrent comparisons: a fraction of what a store can take.
const CONCURRENCY: usize = 16;
/// How many responses are in memory at a time.
const PAGE_SIZE: usize = 256;
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("the store became unreachable")]
    Away(#[from] WriteError),
    #[error("the journal cannot be read")]
    Journal(#[from] DbError),
    #[error("the store changed again")]
    Changed,
}

/// The result for one kept response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// The store has it, or has superseded it.
    Current,
    Restored(Generation),
    /// The store does not know the installation.
    UnknownInstallation,
    /// No key decrypts it.
    Unreadable,
}

#[derive(Debug, Default)]
struct RestoreCounts {
    compared: u64,
    restored: u64,
    unknown: u64,
}

impl RestoreCounts {
    fn add(&mut self, compared: Compared) {
        self.compared += 1;
        match compared {
            Compared::Current | Compared::Unreadable => {}
            Compared::Restored(_) => self.restored += 1,
            Compared::UnknownInstallation => self.unknown += 1,
        }
    }
}

/// Runs until shutdown. Compares whenever the store may have lost writes.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown) {
    loop {
        let scope = tokio::select! {
            biased;
            () = shutdown.started() => return,
            scope = worker.watch.next_restore() => scope,
        };
        let compared = tokio::select! {
            biased;
            () = shutdown.started() => return,
            compared = worker.restore_from_journal(scope) => compared,
        };
        match compared {
            Ok(()) => {}
            Err(Interrupted::Journal(error)) => return worker.stop_on_journal_error(&error),
            Err(Interrupted::Changed) => worker.watch.request_restore(scope),
            Err(away @ Interrupted::Away(_)) => {
                warn!(
                    error = &away as &dyn std::error::Error,
                    "the comparison of kept responses is repeated"
                );
                worker.watch.request_restore(scope);
                tokio::select! {
                    biased;
                    () = shutdown.started() => return,
                    () = sleep(RETRY_INTERVAL) => {}
                }
            }
        }
    }
}

impl Worker {
    /// Restores the responses in the journal that the store lacks, the newest first.
    async fn restore_from_journal(&self, scope: RestoreScope) -> Result<(), Interrupted> {
        let (mut counts, mut cursor) = (RestoreCounts::default(), None);
        let started = Instant::now();
        loop {
            let page = self.journal.confirmed(cursor.as_ref(), PAGE_SIZE)?;
            let Some(last) = page.last() else { break };
            if cursor.is_none() {
                info!(
                    broker = self.name(),
                    "the responses in the journal are compared with the store"
                );
            }
            cursor = Some(last.cursor());
            let wanted: Vec<Entry> = page
                .into_iter()
                .filter(|kept| scope.includes(kept.confirmed_at))
                .map(|kept| kept.entry)
                .collect();
            if wanted.is_empty() {
                break;
            }
            for some in wanted.chunks(CONCURRENCY) {
                let compared = join_all(some.iter().map(|entry| self.restore_entry(entry)));
                for outcome in compared.await {
                    counts.add(outcome?);
                }
            }
            if self.watch.is_restore_pending() {
                return Err(Interrupted::Changed);
            }
        }
        if counts.compared > 0 {
            let duration = started.elapsed();
            info!(
                broker = self.name(),
                compared = counts.compared,
                restored = counts.restored,
                ?duration,
                "the responses in the journal are in the store"
            );
        }
        if counts.unknown > 0 {
            warn!(
                broker = self.name(),
                installations = counts.unknown,
                "the journal has responses of installations that the store does not know"
            );
        }
        Ok(self.watch.mark_restored().await?)
    }

    /// Restores one kept response if the store is behind it.
    async fn restore_entry(&self, entry: &Entry) -> Result<Compared, WriteError> {
        let id = &entry.installation;
        let Some(known) = self.writer.load(id).await? else {
            return Ok(Compared::UnknownInstallation);
        };
        let link = known.installation.link();
        // Almost all responses are superseded. This check is cheap.
        if link.is_none_or(|link| link.generation > entry.spent_generation) {
            return Ok(Compared::Current);
        }
        match self.commit_without_log(entry).await {
            Ok(Some(Committed::Applied { generation, .. })) => {
                metrics::restored();
                info!(installation = %id, %generation, broker = self.name(),
                    "the store had lost a token: it is written again");
                Ok(Compared::Restored(generation))
            }
            Ok(Some(Committed::Duplicate | Committed::NotCurrent) | None) => Ok(Compared::Current),
            Err(WriteError::Unknown(_)) => Ok(Compared::UnknownInstallation),
            Err(error @ WriteError::Unreadable { .. }) => {
                error!(installation = %id, error = &error as &dyn std::error::Error,
                    "a kept response, or its installation, cannot be read");
                Ok(Compared::Unreadable)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks again whether the store has a response, and restores it if not.
    pub(crate) async fn recheck(&self, entry: &Entry) -> Result<(), WriteError> {
        self.restore_entry(entry).await.map(drop)
    }

    /// Restores this broker's response that is newer than the record of an attempt. The token in the record
    /// is then already spent. `None` if there is no such response.
    pub(crate) async fn restore_newer_response(
        &self,
        begun: &Begun,
    ) -> Result<Option<Generation>, WriteError> {
        let kept = match self.journal.confirmed_of(&begun.installation) {
            Ok(kept) => kept,
            Err(error) => {
                self.stop_on_journal_error(&error);
                return Err(WriteError::Unavailable(Box::new(error)));
            }
        };
        let ahead = kept.filter(|kept| kept.entry.spent_generation >= begun.link.generation);
        let Some(kept) = ahead else { return Ok(None) };
        Ok(match self.restore_entry(&kept.entry).await? {
            Compared::Restored(generation) => Some(generation),
            Compared::Current | Compared::UnknownInstallation | Compared::Unreadable => None,
        })
    }
}
