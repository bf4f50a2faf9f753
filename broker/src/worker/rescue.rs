//! What another broker got from GHL and could not bring to the store is brought there from escrow.

use store::{Generation, InstallationId};
use store_writer::WriteError;
use store_writer::escrow::NoMajority;
use store_writer::journal::Entry;
use store_writer::writer::Committed;
use tracing::{error, warn};

use super::Worker;

/// Why it is not known whether somebody has an answer that the store has not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRescued {
    #[error("the escrow cannot be read: {0}")]
    Unread(#[from] NoMajority),
    #[error("an answer in escrow did not reach the store: {0}")]
    Unwritten(#[from] WriteError),
}

impl Worker {
    /// Commits what is in escrow for an installation, the oldest first. `None`: nothing that helps.
    ///
    /// # Errors
    /// When there may be an answer all the same.
    pub(crate) async fn rescue(
        &self,
        id: &InstallationId,
    ) -> Result<Option<Generation>, NotRescued> {
        let mut kept = self.escrow.find(id).await?;
        kept.sort_by_key(|entry| entry.spent_generation);
        let mut rescued = None;
        // What cannot be used is for a person to look at.
        for entry in kept.into_iter().filter(|entry| !entry.is_quarantined) {
            match self.rescue_entry(&entry).await {
                Ok(generation) => rescued = generation.or(rescued),
                // Of another ring, or damaged: it must not hold the installation up.
                Err(error @ (WriteError::Unreadable { .. } | WriteError::Unwritable { .. })) => {
                    error!(installation = %id, error = &error as &dyn std::error::Error,
                        "an answer in escrow is left there");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rescued)
    }

    async fn rescue_entry(&self, entry: &Entry) -> Result<Option<Generation>, WriteError> {
        let Some(committed) = self.commit_answer(entry).await? else {
            return Ok(None);
        };
        self.confirmed(entry, &committed).await;
        match committed {
            Committed::Applied { generation, .. } => {
                warn!(installation = %entry.installation, %generation,
                    "the answer of a broker that is gone was found in escrow");
                Ok(Some(generation))
            }
            // The store had it, has it among the alternates now, or has gone past it.
            Committed::Duplicate | Committed::NotCurrent => Ok(None),
        }
    }
}
