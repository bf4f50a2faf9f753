//! What another broker got from GHL and could not bring to the store is brought there from escrow.

use store_writer::WriteError;
use store_writer::escrow::NoMajority;
use store_writer::journal::Entry;
use store_writer::writer::Committed;
use tracing::{error, warn};

use store::InstallationId;

use super::Worker;
use crate::outcome::Outcome;

impl Worker {
    /// Commits what is in escrow for an installation, the oldest first. `None`: nothing that helps.
    ///
    /// # Errors
    /// When there may be more than the lock nodes that answer know of.
    pub(crate) async fn rescue(&self, id: &InstallationId) -> Result<Option<Outcome>, NoMajority> {
        let mut kept = self.escrow.find(id).await?;
        kept.sort_by_key(|entry| entry.spent_generation);
        let mut rescued = None;
        for entry in kept {
            match self.rescue_entry(&entry).await {
                Ok(outcome) => rescued = outcome.or(rescued),
                Err(unreadable @ WriteError::Unreadable { .. }) => {
                    error!(installation = %id, error = &unreadable as &dyn std::error::Error,
                        "an answer in escrow is left there");
                }
                Err(error) => return Ok(Some(Outcome::Unavailable(error.to_string()))),
            }
        }
        Ok(rescued)
    }

    async fn rescue_entry(&self, entry: &Entry) -> Result<Option<Outcome>, WriteError> {
        let Some(sealed) = &entry.answer else {
            return Ok(None);
        };
        let committed = self.commit_answer(entry, sealed).await?;
        self.escrow.forget(&entry.installation, &entry.intent);
        match committed {
            Committed::Applied { generation, .. } => {
                warn!(installation = %entry.installation, %generation,
                    "the answer of a broker that is gone was found in escrow");
                Ok(Some(Outcome::Refreshed { generation }))
            }
            // The store had it, or has it among the alternates now.
            Committed::Duplicate | Committed::Kept => Ok(None),
        }
    }
}
