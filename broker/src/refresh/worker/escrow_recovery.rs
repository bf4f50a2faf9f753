//! Recovers responses from escrow that another broker could not commit to the store.

use store::{Generation, InstallationId};
use store_writer::WriteError;
use store_writer::escrow::NoMajority;
use store_writer::journal::Entry;
use store_writer::writer::Committed;
use tracing::{error, warn};

use super::Worker;

/// Why it is unknown whether escrow holds a response that the store lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EscrowError {
    /// No majority of the lock nodes responded.
    #[error("escrow cannot be read: {0}")]
    Unread(#[from] NoMajority),
    /// The store did not take a response from escrow.
    #[error("a response in escrow could not be committed: {0}")]
    Unwritten(#[from] WriteError),
}

impl Worker {
    /// Commits the responses in escrow for an installation, the oldest first. Returns the new generation, or
    /// `None` if escrow holds nothing newer than the store.
    ///
    /// # Errors
    /// If escrow may hold a response that was not committed.
    pub(crate) async fn recover_from_escrow(
        &self,
        id: &InstallationId,
    ) -> Result<Option<Generation>, EscrowError> {
        let mut kept = self.escrow.find(id).await?;
        kept.sort_by_key(|entry| entry.spent_generation);
        let mut rescued = None;
        // Unusable responses are left for an operator.
        for entry in kept.into_iter().filter(|entry| !entry.is_quarantined) {
            match self.recover_entry(&entry).await {
                Ok(generation) => rescued = generation.or(rescued),
                // Sealed with another key ring, or damaged. It must not block the installation.
                Err(error @ (WriteError::Unreadable { .. } | WriteError::Unwritable { .. })) => {
                    error!(installation = %id, error = &error as &dyn std::error::Error,
                        "a response in escrow cannot be used and is left there");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rescued)
    }

    async fn recover_entry(&self, entry: &Entry) -> Result<Option<Generation>, WriteError> {
        let Some(committed) = self.commit_response(entry).await? else {
            return Ok(None);
        };
        // A failed write ends the process. The store has the response, so the journal of a full disk can do without it.
        if self.ready_to_spend().is_ok() {
            self.mark_confirmed(entry, &committed).await;
        }
        match committed {
            Committed::Applied { generation, .. } => {
                warn!(installation = %entry.installation, %generation,
                    "a response of another broker was recovered from escrow");
                Ok(Some(generation))
            }
            // The store had it, keeps it as an alternate now, or has superseded it.
            Committed::Duplicate | Committed::NotCurrent => Ok(None),
        }
    }
}
