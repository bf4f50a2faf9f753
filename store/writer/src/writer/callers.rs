//! Callers' keys.

use secrecy::{ExposeSecret, SecretString};
use store::caller::new_key;
use store::{Caller, KeyHash};

use super::{StoreWriter, WriteError};

impl StoreWriter {
    /// Creates a key for the caller. The key is returned once, and only its hash is stored.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn create_caller(&self, caller: &Caller) -> Result<SecretString, WriteError> {
        let key = new_key();
        let hash = KeyHash::of(key.expose_secret());
        self.backend.put_caller(&hash, caller.to_fields()).await?;
        Ok(key)
    }

    /// Registers a key that exists already, such as one from a file. A key that is registered keeps its record, also
    /// if it was revoked. Whether it was new.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn register_caller(
        &self,
        key: &SecretString,
        caller: &Caller,
    ) -> Result<bool, WriteError> {
        let hash = KeyHash::of(key.expose_secret());
        self.backend.insert_caller(&hash, caller.to_fields()).await
    }

    /// All callers that ever had a key, the newest first. Leaves out unreadable ones.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn callers(&self) -> Result<Vec<(KeyHash, Caller)>, WriteError> {
        let stored = self.backend.callers().await?;
        let readable = stored.into_iter().filter_map(|(hash, fields)| {
            let caller = Caller::from_fields(&fields).ok()?;
            Some((hash, caller))
        });
        let mut callers: Vec<_> = readable.collect();
        callers.sort_by_key(|(hash, caller)| (std::cmp::Reverse(caller.created_at), *hash));
        Ok(callers)
    }

    /// Revokes a key and announces it to gateways. Whether the key exists.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn revoke_caller(
        &self,
        key: &KeyHash,
        now: store::Timestamp,
    ) -> Result<bool, WriteError> {
        let callers = self.callers().await?;
        let Some((_, caller)) = callers.into_iter().find(|(hash, _)| hash == key) else {
            return Ok(false);
        };
        let revoked = Caller {
            revoked_at: caller.revoked_at.or(Some(now)),
            ..caller
        };
        self.backend.put_caller(key, revoked.to_fields()).await?;
        Ok(true)
    }
}
