//! Consents whose tokens are in hand and not in the store yet. They are in the journal.

use store_writer::consent::Consent;
use tracing::{error, info, warn};

use crate::worker::Worker;

impl Worker {
    /// Puts GHL's answer to a code where a crash does not take it.
    pub(crate) async fn keep_consent(&self, consent: &Consent) {
        let sealed = consent.seal(&self.writer.rings().refresh);
        if let Err(error) = self.journal.note_consent(&consent.fresh, &sealed).await {
            // The store is its only hope now.
            self.journal_failed(&error);
        }
    }

    /// The store has the consent.
    pub(crate) async fn forget_consent(&self, consent: &Consent) {
        if let Err(error) = self.journal.forget_consent(&consent.fresh).await {
            warn!(%error, "a consent stays in the journal and is looked at again");
        }
    }

    /// Brings to the store what could not be stored when it was given.
    pub(crate) async fn bring_consents(&self) {
        let kept = match self.journal.consents() {
            Ok(kept) => kept,
            Err(error) => return self.journal_failed(&error),
        };
        for (fresh, sealed) in kept {
            match Consent::open(&fresh, &sealed, &self.writer.rings().refresh) {
                Ok(consent) => self.bring_consent(&consent).await,
                Err(error) => error!(consent = %fresh, %error,
                    "a consent in the journal cannot be read: put the missing key back"),
            }
        }
    }

    async fn bring_consent(&self, consent: &Consent) {
        match self.writer.register_consent(consent).await {
            Ok(id) => {
                info!(installation = %id, "a consent that had been kept reached the store");
                self.forget_consent(consent).await;
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "a consent waits in the journal for the store"
            ),
        }
    }
}
