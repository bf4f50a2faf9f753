//! Callers' keys.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use store::caller::new_key;
use store::{Caller, KeyHash, Timestamp};

use super::{StoreWriter, WriteError};
use crate::key_rotation::{KeyRotation, NotRotatable, rotate};

/// A key's successor.
#[derive(Debug)]
pub struct RotatedKey {
    /// The new key. It is shown once.
    pub key: SecretString,
    /// Both keys' records.
    pub rotation: KeyRotation,
}

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
    pub async fn revoke_caller(&self, key: &KeyHash, now: Timestamp) -> Result<bool, WriteError> {
        let Some(caller) = self.find_caller(key).await? else {
            return Ok(false);
        };
        let revoked = Caller {
            revoked_at: caller.revoked_at.or(Some(now)),
            ..caller
        };
        self.backend.put_caller(key, revoked.to_fields()).await?;
        Ok(true)
    }

    /// Makes the successor of a key, and lets the old one end after `overlap`.
    ///
    /// The inner error: why the key is not rotated.
    ///
    /// # Errors
    /// When the store is unavailable. The old key is then as it was, or has its end without a known successor.
    pub async fn rotate_caller(
        &self,
        key: &KeyHash,
        now: Timestamp,
        overlap: Duration,
    ) -> Result<Result<RotatedKey, NotRotatable>, WriteError> {
        let Some(old) = self.find_caller(key).await? else {
            return Ok(Err(NotRotatable::NotLive));
        };
        let rotation = match rotate(old, now, overlap) {
            Ok(rotation) => rotation,
            Err(reason) => return Ok(Err(reason)),
        };
        // The successor first, so that its caller is never without a key.
        let new = self.create_caller(&rotation.successor).await?;
        let ending = rotation.ending.to_fields();
        self.backend.put_caller(key, ending).await?;
        Ok(Ok(RotatedKey { key: new, rotation }))
    }

    async fn find_caller(&self, key: &KeyHash) -> Result<Option<Caller>, WriteError> {
        let callers = self.callers().await?;
        let mut callers = callers.into_iter();
        Ok(callers.find(|(hash, _)| hash == key).map(|(_, it)| it))
    }
}
