//! What all brokers must know of, besides installations and callers: consents and webhooks that were
//! dealt with, and how GHL's token endpoint answers.

use std::time::Duration;

use store::{consent_state, keys};

use super::{StoreWriter, WriteError};

/// Webhooks older than 5 minutes are refused anyway.
const WEBHOOK: Duration = Duration::from_secs(15 * 60);
/// So often the alarm about a client pair that stays refused is raised again.
const DISTRUST: Duration = Duration::from_secs(3600);
/// An outage that nobody hears of for so long is over: installations in doubt are asked for every
/// few seconds as long as it lasts.
const OUTAGE: Duration = Duration::from_secs(24 * 3600);

impl StoreWriter {
    /// Whether the state of a consent is used for the first time.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn is_first_use(&self, state: &str) -> Result<bool, WriteError> {
        let key = keys::consent(state);
        // No state is good for longer than it is remembered.
        self.backend
            .remember(&key, "used", consent_state::GOOD_FOR)
            .await
    }

    /// Whether the webhook was dealt with before.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn was_seen(&self, webhook_id: &str) -> Result<bool, WriteError> {
        let seen = self.backend.recall(&keys::webhook(webhook_id)).await?;
        Ok(seen.is_some())
    }

    /// Notes that the webhook was dealt with.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn note_seen(&self, webhook_id: &str) -> Result<(), WriteError> {
        let key = keys::webhook(webhook_id);
        self.backend.remember(&key, "1", WEBHOOK).await.map(|_| ())
    }

    /// Stops all brokers with these client credentials from calling the token endpoint for a while;
    /// false where they pause already, and go on doing so for as long as was said before.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn open_breaker(
        &self,
        credentials: &str,
        reason: &str,
        pause: Duration,
    ) -> Result<bool, WriteError> {
        let key = keys::breaker(credentials);
        self.backend.remember(&key, reason, pause).await
    }

    /// Why no broker with these credentials may call the token endpoint now; `None`: they may.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn breaker(&self, credentials: &str) -> Result<Option<String>, WriteError> {
        self.backend.recall(&keys::breaker(credentials)).await
    }

    /// Notes that GHL refuses the credentials; false where that is known.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn distrust_pair(&self, credentials: &str, reason: &str) -> Result<bool, WriteError> {
        let key = keys::distrust(credentials);
        self.backend.remember(&key, reason, DISTRUST).await
    }

    /// Why GHL refused the credentials, until somebody was refreshed with them since.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn distrust(&self, credentials: &str) -> Result<Option<String>, WriteError> {
        self.backend.recall(&keys::distrust(credentials)).await
    }

    /// Notes that GHL takes the credentials, and ends the pause; false where nobody doubted them.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn trust_pair(&self, credentials: &str) -> Result<bool, WriteError> {
        let was_doubted = self.backend.forget(&keys::distrust(credentials)).await?;
        if was_doubted {
            self.backend.forget(&keys::breaker(credentials)).await?;
        }
        Ok(was_doubted)
    }

    /// What brokers know together of the token endpoint, as text; `None`: nothing is wrong.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn outage(&self) -> Result<Option<String>, WriteError> {
        self.backend.recall(keys::OUTAGE).await
    }

    /// Puts `next` in the place of what was read; false where somebody else wrote since.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn replace_outage(
        &self,
        expected: Option<&str>,
        next: Option<&str>,
    ) -> Result<bool, WriteError> {
        let key = keys::OUTAGE;
        self.backend.replace(key, expected, next, OUTAGE).await
    }
}
