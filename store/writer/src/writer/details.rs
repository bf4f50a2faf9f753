//! Facts from GHL's webhooks about installations.

use std::time::Duration;

use store::{AppName, InstallationId, keys};

use super::{Decision, StoreWriter, WriteError};
use crate::details::Details;

/// How long details are kept for a consent that has not come yet. GHL repeats a webhook for hours.
const EARLY_FOR: Duration = Duration::from_secs(24 * 3600);

impl StoreWriter {
    /// Keeps what an event tells about the installation of a location or company under an app. If it is not stored yet,
    /// its consent will find the details, within a day.
    ///
    /// # Errors
    /// When the store is unavailable, or the record cannot be read.
    pub async fn note_details(
        &self,
        app: &AppName,
        name: &str,
        told: &Details,
    ) -> Result<(), WriteError> {
        let id = self
            .reserved_id(app, name, InstallationId::random())
            .await?;
        let is_stored = self.decide(&id, |current, _| {
            let Some(current) = current else {
                return Decision::Leave(false);
            };
            let held = current.details.clone().unwrap_or_default();
            match held.with(told) {
                Some(details) => {
                    let mut next = current.clone();
                    next.details = Some(details);
                    Decision::Write(Box::new(next), true)
                }
                None => Decision::Leave(true),
            }
        });
        if is_stored.await? {
            return Ok(());
        }
        let key = keys::early_details(&id);
        let held = self.backend.get(&key).await?;
        let earlier = held.as_deref().and_then(parse).unwrap_or_default();
        let Some(next) = earlier.with(told) else {
            return Ok(());
        };
        let next = serde_json::to_string(&next).unwrap_or_default();
        // If another event was faster, this one is lost. It tells the same, as a rule, and nothing depends on it.
        self.backend
            .compare_and_set(&key, held.as_deref(), Some(&next), EARLY_FOR)
            .await?;
        Ok(())
    }

    /// The facts of events from before the installation was stored.
    pub(super) async fn early_details(
        &self,
        id: &InstallationId,
    ) -> Result<Option<Details>, WriteError> {
        let held = self.backend.get(&keys::early_details(id)).await?;
        Ok(held.as_deref().and_then(parse))
    }
}

fn parse(text: &str) -> Option<Details> {
    serde_json::from_str(text).ok()
}
