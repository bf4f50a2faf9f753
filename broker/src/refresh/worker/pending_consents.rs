//! Consents whose tokens are in the journal but not yet in the store.

use store::InstallationId;
use store_writer::consent::Consent;
use tracing::{error, info, warn};

use crate::refresh::worker::Worker;

impl Worker {
    /// Writes the tokens of a consent to the journal, so that they survive a crash.
    pub(crate) async fn keep_consent(&self, consent: &Consent) {
        let sealed = consent.seal(&self.writer.rings().refresh);
        if let Err(error) = self.journal.note_consent(&consent.fresh, &sealed).await {
            // Only the store can keep it now.
            self.stop_on_journal_error(&error);
        }
    }

    /// Removes a consent from the journal after the store has taken it.
    pub(crate) async fn forget_consent(&self, consent: &Consent) {
        if let Err(error) = self.journal.forget_consent(&consent.fresh).await {
            warn!(%error, "a committed consent stays in the journal and is committed again");
        }
    }

    /// Commits the consents in the journal. Returns those that the store has now, and their installations.
    pub(crate) async fn commit_pending_consents(&self) -> Vec<(Consent, InstallationId)> {
        let mut committed = Vec::new();
        let kept = match self.journal.consents() {
            Ok(kept) => kept,
            Err(error) => {
                self.stop_on_journal_error(&error);
                return committed;
            }
        };
        if kept.is_empty() || self.watch.ensure_verified().is_err() {
            return committed;
        }
        for (fresh, sealed) in kept {
            match Consent::open(&fresh, &sealed, &self.writer.rings().refresh) {
                Ok(consent) => {
                    let id = self.commit_consent(&consent).await;
                    committed.extend(id.map(|id| (consent, id)));
                }
                Err(error) => error!(consent = %fresh, %error,
                    "a consent in the journal cannot be read: put the missing key back"),
            }
        }
        committed
    }

    async fn commit_consent(&self, consent: &Consent) -> Option<InstallationId> {
        match self.writer.register_consent(consent).await {
            Ok(id) => {
                info!(installation = %id, "a consent from the journal reached the store");
                self.forget_consent(consent).await;
                Some(id)
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a consent waits in the journal for the store"
                );
                None
            }
        }
    }
}
