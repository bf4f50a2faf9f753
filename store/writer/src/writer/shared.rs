//! What all brokers must know of, besides installations and callers: consents and webhooks that were
//! dealt with, and whether GHL wants to hear from us.

use std::time::Duration;

use store::{consent_state, keys};

use super::{StoreWriter, WriteError};

/// Webhooks older than 5 minutes are refused anyway.
const WEBHOOK: Duration = Duration::from_secs(15 * 60);
/// So often the alarm about a client pair that stays refused is raised again.
const DISTRUST: Duration = Duration::from_secs(3600);

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

    /// Stops all brokers from calling the token endpoint for a while; false where they pause
    /// already, and go on doing so for as long as was said before.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn open_breaker(&self, reason: &str, pause: Duration) -> Result<bool, WriteError> {
        self.backend.remember(keys::BREAKER, reason, pause).await
    }

    /// Why no broker may call the token endpoint now; `None`: they may.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn breaker(&self) -> Result<Option<String>, WriteError> {
        self.backend.recall(keys::BREAKER).await
    }

    /// Notes for all brokers that GHL refuses the client pair; false where that is known.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn distrust_pair(&self, reason: &str) -> Result<bool, WriteError> {
        self.backend
            .remember(keys::DISTRUST, reason, DISTRUST)
            .await
    }

    /// Why GHL refused the client pair, until somebody was refreshed with it since.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn distrust(&self) -> Result<Option<String>, WriteError> {
        self.backend.recall(keys::DISTRUST).await
    }

    /// Notes that GHL takes the client pair, and ends the pause; false where nobody doubted it.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn trust_pair(&self) -> Result<bool, WriteError> {
        let was_doubted = self.backend.forget(keys::DISTRUST).await?;
        if was_doubted {
            self.backend.forget(keys::BREAKER).await?;
        }
        Ok(was_doubted)
    }
}
