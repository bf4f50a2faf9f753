//! State that all brokers share besides installations and callers: used consent states, processed webhooks,
//! and the condition of GHL's token endpoint.

use std::time::Duration;

use store::{consent_state, keys};

use super::{StoreWriter, WriteError};

/// GHL repeats a webhook for hours. This is longer, so that a recorded one cannot be replayed when it is forgotten soon.
const WEBHOOK_TTL: Duration = Duration::from_secs(35 * 24 * 3600);
/// The value of a used consent state whose outcome is not known.
const USED: &str = "used";
/// How often the alarm about refused client credentials is repeated.
const REFUSED_CREDENTIALS_TTL: Duration = Duration::from_secs(3600);
/// An outage that no broker reports for this long is over. During one, installations with a lost response are
/// retried every few seconds.
const OUTAGE_TTL: Duration = Duration::from_secs(24 * 3600);

impl StoreWriter {
    /// Marks a consent state as used. Whether this is its first use.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn use_consent_state(&self, state: &str) -> Result<bool, WriteError> {
        let key = keys::consent(consent_state::name(state));
        // A state expires before the store forgets it.
        self.backend
            .put_if_absent(&key, USED, consent_state::VALID_FOR)
            .await
    }

    /// The outcome of the consent with a used state. `None` if it has none yet.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn consent_outcome(&self, state: &str) -> Result<Option<String>, WriteError> {
        let key = keys::consent(consent_state::name(state));
        let held = self.backend.get(&key).await?;
        Ok(held.filter(|held| held != USED))
    }

    /// Records the outcome of the consent with a used state, for a browser that comes again.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn record_consent_outcome(
        &self,
        state: &str,
        outcome: &str,
    ) -> Result<(), WriteError> {
        let key = keys::consent(consent_state::name(state));
        self.replace(&key, USED, outcome, consent_state::VALID_FOR)
            .await
            .map(|_| ())
    }

    /// Stores a value with a TTL. False if the key has a value already.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<bool, WriteError> {
        self.backend.put_if_absent(key, value, ttl).await
    }

    /// The value of a key that [`StoreWriter::put`] stored.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn get(&self, key: &str) -> Result<Option<String>, WriteError> {
        self.backend.get(key).await
    }

    /// Replaces the value of a key. False if it is not `expected` any more.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn replace(
        &self,
        key: &str,
        expected: &str,
        next: &str,
        ttl: Duration,
    ) -> Result<bool, WriteError> {
        self.backend
            .compare_and_set(key, Some(expected), Some(next), ttl)
            .await
    }

    /// Whether the webhook was processed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn is_webhook_processed(&self, webhook_id: &str) -> Result<bool, WriteError> {
        let processed = self.backend.get(&keys::webhook(webhook_id)).await?;
        Ok(processed.is_some())
    }

    /// Records that the webhook was processed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn record_webhook_processed(&self, webhook_id: &str) -> Result<(), WriteError> {
        let key = keys::webhook(webhook_id);
        self.backend
            .put_if_absent(&key, "1", WEBHOOK_TTL)
            .await
            .map(|_| ())
    }

    /// Opens the circuit breaker: no broker with these client credentials calls the token endpoint for
    /// `pause`. False if it is open already; its end does not change then.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn open_breaker(
        &self,
        credentials: &str,
        reason: &str,
        pause: Duration,
    ) -> Result<bool, WriteError> {
        let key = keys::breaker(credentials);
        self.backend.put_if_absent(&key, reason, pause).await
    }

    /// Why the circuit breaker of these credentials is open; `None`: it is closed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn breaker(&self, credentials: &str) -> Result<Option<String>, WriteError> {
        self.backend.get(&keys::breaker(credentials)).await
    }

    /// Records that GHL refuses the credentials. False if that is recorded already.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn record_refused_credentials(
        &self,
        credentials: &str,
        reason: &str,
    ) -> Result<bool, WriteError> {
        let key = keys::refused_credentials(credentials);
        self.backend
            .put_if_absent(&key, reason, REFUSED_CREDENTIALS_TTL)
            .await
    }

    /// Why GHL refused the credentials; `None` once a refresh with them has succeeded.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn refused_credentials(
        &self,
        credentials: &str,
    ) -> Result<Option<String>, WriteError> {
        self.backend
            .get(&keys::refused_credentials(credentials))
            .await
    }

    /// Records that GHL accepts the credentials, and closes the circuit breaker if it is open for this reason. False
    /// if no refusal was recorded.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn record_accepted_credentials(
        &self,
        credentials: &str,
        reason: &str,
    ) -> Result<bool, WriteError> {
        let was_refused = self.forget_refused_credentials(credentials).await?;
        // A pause can be there without a record, and a pause for another reason does not end.
        let key = keys::breaker(credentials);
        self.backend
            .compare_and_set(&key, Some(reason), None, Duration::ZERO)
            .await?;
        Ok(was_refused)
    }

    /// Removes the record of [`StoreWriter::record_refused_credentials`]. The circuit breaker stays as it is. False if
    /// there was no record.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn forget_refused_credentials(&self, credentials: &str) -> Result<bool, WriteError> {
        let key = keys::refused_credentials(credentials);
        self.backend.delete(&key).await
    }

    /// The brokers' shared view of an outage of the token endpoint, as text; `None`: no outage.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn outage(&self) -> Result<Option<String>, WriteError> {
        self.backend.get(keys::OUTAGE).await
    }

    /// Replaces the shared view that was read by `next`. False if another broker wrote since.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn replace_outage(
        &self,
        expected: Option<&str>,
        next: Option<&str>,
    ) -> Result<bool, WriteError> {
        let key = keys::OUTAGE;
        self.backend
            .compare_and_set(key, expected, next, OUTAGE_TTL)
            .await
    }
}
