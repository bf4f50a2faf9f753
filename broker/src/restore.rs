//! Brings to the store what it has confirmed and lost.
//!
//! All answers that the journal keeps are compared with the store, the newest first, and committed
//! where the store is behind them. A commit is fenced by the chain, so what the store has, or has gone
//! past, is left alone, and two brokers that bring back the same do no harm.

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
use crate::store_watch::Depth;
use crate::worker::Worker;

/// Answers that are compared at once: a fraction of what a store takes.
const AT_ONCE: usize = 16;
/// How many answers are in memory at a time.
const PAGE: usize = 256;
const AGAIN: Duration = Duration::from_secs(1);

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("the store went away")]
    Away(#[from] WriteError),
    #[error("the journal cannot be read")]
    Journal(#[from] DbError),
    #[error("the store changed again")]
    Changed,
}

/// What became of one kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// The store has it, or has gone past it.
    There,
    Restored(Generation),
    /// The store does not know the installation.
    Unknown,
    /// No key opens it.
    Unreadable,
}

#[derive(Debug, Default)]
struct Tally {
    compared: u64,
    restored: u64,
    unknown: u64,
}

impl Tally {
    fn add(&mut self, compared: Compared) {
        self.compared += 1;
        match compared {
            Compared::There | Compared::Unreadable => {}
            Compared::Restored(_) => self.restored += 1,
            Compared::Unknown => self.unknown += 1,
        }
    }
}

/// Until shutdown: compares whenever the store may have lost something.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown) {
    loop {
        let depth = tokio::select! {
            biased;
            () = shutdown.started() => return,
            depth = worker.watch.wanted() => depth,
        };
        let compared = tokio::select! {
            biased;
            () = shutdown.started() => return,
            compared = worker.compare(depth) => compared,
        };
        match compared {
            Ok(()) => {}
            Err(Interrupted::Journal(error)) => return worker.journal_failed(&error),
            Err(Interrupted::Changed) => worker.watch.want(depth),
            Err(away @ Interrupted::Away(_)) => {
                warn!(
                    error = &away as &dyn std::error::Error,
                    "kept answers are compared again"
                );
                worker.watch.want(depth);
                tokio::select! {
                    biased;
                    () = shutdown.started() => return,
                    () = sleep(AGAIN) => {}
                }
            }
        }
    }
}

impl Worker {
    /// Brings back what the journal keeps and the store lacks. Begins with the newest.
    async fn compare(&self, depth: Depth) -> Result<(), Interrupted> {
        let (mut tally, mut cursor) = (Tally::default(), None);
        let started = Instant::now();
        loop {
            let page = self.journal.confirmed(cursor.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            if cursor.is_none() {
                info!(
                    broker = self.name(),
                    "what the journal keeps is compared with the store"
                );
            }
            cursor = Some(last.cursor());
            let wanted: Vec<Entry> = page
                .into_iter()
                .filter(|kept| depth.reaches(kept.confirmed_at))
                .map(|kept| kept.entry)
                .collect();
            if wanted.is_empty() {
                break;
            }
            for some in wanted.chunks(AT_ONCE) {
                let compared = join_all(some.iter().map(|entry| self.bring_back(entry)));
                for outcome in compared.await {
                    tally.add(outcome?);
                }
            }
            if self.watch.is_wanted() {
                return Err(Interrupted::Changed);
            }
        }
        if tally.compared > 0 {
            let took = started.elapsed();
            info!(
                broker = self.name(),
                compared = tally.compared,
                restored = tally.restored,
                ?took,
                "what the journal keeps is in the store"
            );
        }
        if tally.unknown > 0 {
            warn!(
                broker = self.name(),
                installations = tally.unknown,
                "the journal keeps answers of installations that the store does not know"
            );
        }
        Ok(self.watch.restored().await?)
    }

    /// Brings one kept answer back, where the store is behind it.
    async fn bring_back(&self, entry: &Entry) -> Result<Compared, WriteError> {
        let id = &entry.installation;
        let Some(known) = self.writer.load(id).await? else {
            return Ok(Compared::Unknown);
        };
        let link = known.installation.link();
        // The cheap answer to what almost all are asked: the store went past it.
        if link.is_none_or(|link| link.generation > entry.spent_generation) {
            return Ok(Compared::There);
        }
        match self.commit_quietly(entry).await {
            Ok(Some(Committed::Applied { generation, .. })) => {
                metrics::restored();
                info!(installation = %id, %generation, broker = self.name(),
                    "the store had lost a token: it is written again");
                Ok(Compared::Restored(generation))
            }
            Ok(Some(Committed::Duplicate | Committed::NotCurrent) | None) => Ok(Compared::There),
            Err(WriteError::Unknown(_)) => Ok(Compared::Unknown),
            Err(error @ WriteError::Unreadable { .. }) => {
                error!(installation = %id, error = &error as &dyn std::error::Error,
                    "a kept answer, or its installation, cannot be read");
                Ok(Compared::Unreadable)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks once more whether the store has an answer, and brings it back where it has not.
    pub(crate) async fn look_after(&self, entry: &Entry) -> Result<(), WriteError> {
        self.bring_back(entry).await.map(drop)
    }

    /// The answer of this broker that is ahead of the record that an attempt began with, brought back:
    /// the token of the record is spent. `None`: there is none.
    pub(crate) async fn restore_before(
        &self,
        begun: &Begun,
    ) -> Result<Option<Generation>, WriteError> {
        let kept = match self.journal.confirmed_of(&begun.installation) {
            Ok(kept) => kept,
            Err(error) => {
                self.journal_failed(&error);
                return Err(WriteError::Unavailable(Box::new(error)));
            }
        };
        let ahead = kept.filter(|kept| kept.entry.spent_generation >= begun.link.generation);
        let Some(kept) = ahead else { return Ok(None) };
        Ok(match self.bring_back(&kept.entry).await? {
            Compared::Restored(generation) => Some(generation),
            Compared::There | Compared::Unknown | Compared::Unreadable => None,
        })
    }
}
