//! The start of the only process over a store.

use futures_util::{StreamExt, TryStreamExt, stream};
use store::{InstallationId, keys};
use tracing::error;

use super::{Decision, StoreWriter, WriteError};
use crate::protocol;

/// The number of concurrent reads. Their writes share syncs.
const AT_ONCE: usize = 256;

impl StoreWriter {
    /// Takes over a store of one process before it refreshes anything. Ends the attempts of the previous
    /// process, and corrects records that were written while this machine's clock was ahead. Returns the
    /// number of corrected records. `credentials` names the client id and secrets of each app.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_over_all(&self, credentials: &[String]) -> Result<usize, WriteError> {
        // A pause may also end in the future. If its reason persists, it starts again.
        let pauses = credentials
            .iter()
            .flat_map(|pair| [keys::breaker(pair), keys::refused_credentials(pair)]);
        for key in pauses.chain([keys::OUTAGE.to_owned()]) {
            self.backend.delete(&key).await?;
        }
        let mut count = 0;
        for partition in 0..=u8::MAX {
            let ids = self.backend.ids(partition).await?;
            let outcomes = stream::iter(ids)
                .map(async |id| self.take_over(&id).await)
                .buffer_unordered(AT_ONCE);
            let ahead: Vec<bool> = outcomes.try_collect().await?;
            count += ahead.into_iter().filter(|was_ahead| *was_ahead).count();
        }
        Ok(count)
    }

    async fn take_over(&self, id: &InstallationId) -> Result<bool, WriteError> {
        let decided = self.decide(id, |current, now| {
            match current.and_then(|current| protocol::take_over(current, now)) {
                Some(taken) => Decision::Write(taken.next, taken.was_ahead),
                None => Decision::Leave(false),
            }
        });
        match decided.await {
            Err(error @ WriteError::Unreadable { .. }) => {
                error!(installation = %id, error = &error as &dyn std::error::Error,
                    "a record cannot be read, and its attempts cannot be ended");
                Ok(false)
            }
            outcome => outcome,
        }
    }
}
