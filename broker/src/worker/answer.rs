//! What GHL granted, from its arrival until the store has it.

use std::time::Duration;

use store::seal::Sealed;
use store_writer::durable::DurableError;
use store_writer::escrow::NoMajority;
use store_writer::journal::Entry;
use store_writer::writer::Committed;
use store_writer::{Grant, WriteError};
use tracing::{error, info, warn};

use super::{Worker, lock};
use crate::crash_point::{self, Step};
use crate::line;
use crate::metrics;
use crate::outcome::Outcome;

/// How often a commit is tried at once; after that the journal's replay goes on with it.
const COMMIT_ATTEMPTS: u32 = 5;

impl Worker {
    /// Puts an answer where neither a crash nor the loss of this host takes it.
    pub(super) async fn keep(&self, entry: &Entry) {
        let (journaled, escrowed) = tokio::join!(self.journal.note(entry), self.escrow.keep(entry));
        if let Err(error) = journaled {
            // The store and the escrow are its only hope now.
            self.journal_failed(&error);
        }
        self.note_escrow(entry, escrowed);
    }

    /// Puts an answer from the journal where the loss of this host does not take it.
    pub(crate) async fn keep_in_escrow(&self, entry: &Entry) {
        self.note_escrow(entry, self.escrow.keep(entry).await);
    }

    fn note_escrow(&self, entry: &Entry, escrowed: Result<(), NoMajority>) {
        if let Err(error) = escrowed {
            metrics::escrow_missed();
            warn!(installation = %entry.installation, broker = self.name, %error,
                "an answer of GHL is on this host alone until the store has it");
        }
    }

    pub(super) async fn commit(&self, entry: Entry, grant: &Grant) -> Outcome {
        let id = &entry.installation;
        let mut pause = Duration::from_millis(50);
        for _ in 0..COMMIT_ATTEMPTS {
            match self.writer.commit(grant).await {
                Ok(committed) => {
                    crash_point::reached(Step::Committed);
                    self.forget(&entry).await;
                    return self.committed(grant, &committed);
                }
                Err(error) => {
                    warn!(installation = %id, error = &error as &dyn std::error::Error,
                        "a granted token waits in the journal for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.keep_waiting(entry);
        Outcome::Journaled
    }

    /// Commits an answer from a journal or from escrow. Idempotent.
    pub(crate) async fn commit_entry(&self, entry: &Entry) -> Result<(), WriteError> {
        if let Some(sealed) = &entry.answer {
            self.commit_answer(entry, sealed).await?;
        }
        self.forget(entry).await;
        self.wait_no_more(entry);
        Ok(())
    }

    /// Leaves an answer in the journal that cannot be brought to the store by trying again. The next
    /// start tries it once more.
    pub(crate) fn leave(&self, entry: &Entry, error: &WriteError) {
        error!(installation = %entry.installation, error = error as &dyn std::error::Error,
            "an answer stays in the journal and is tried again at the next start");
        self.wait_no_more(entry);
    }

    fn wait_no_more(&self, entry: &Entry) {
        let mut waiting = lock(&self.waiting);
        let kept = waiting.get(&entry.installation);
        if kept.is_some_and(|kept| kept.intent == entry.intent) {
            waiting.remove(&entry.installation);
        }
    }

    pub(crate) async fn commit_answer(
        &self,
        entry: &Entry,
        sealed: &Sealed,
    ) -> Result<Committed, WriteError> {
        let id = &entry.installation;
        let ring = &self.writer.rings().refresh;
        let grant = Grant::open(id, entry.spent_generation, sealed, ring);
        let grant = grant.map_err(|source| WriteError::Unreadable {
            id: id.clone(),
            source,
        })?;
        let committed = self.writer.commit(&grant).await?;
        info!(installation = %id, ?committed, "an answer that had been kept reached the store");
        self.committed(&grant, &committed);
        Ok(committed)
    }

    pub(super) fn committed(&self, grant: &Grant, committed: &Committed) -> Outcome {
        let id = &grant.installation;
        match committed {
            // A duplicate is most often our own write, whose acknowledgement was lost.
            Committed::Applied { .. } | Committed::Duplicate => {
                line::refreshed(id, grant);
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::Kept => {
                warn!(installation = %id, broker = self.name,
                    "the token chain moved on meanwhile: the granted token is kept as an alternate");
                Outcome::Superseded
            }
        }
    }

    /// Drops what was kept of an attempt that is finished.
    pub(crate) async fn forget(&self, entry: &Entry) {
        if entry.answer.is_some() {
            self.escrow.forget(&entry.installation, &entry.intent);
        }
        if let Err(error) = self.journal.forget(&entry.intent).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at boot");
        }
    }

    /// Without its journal a broker would spend tokens that a crash loses: it stops, and others go
    /// on.
    pub(super) fn journal_failed(&self, error: &DurableError) {
        error!(%error, "the journal cannot be written: this broker stops");
        self.shutdown.fail();
    }
}
