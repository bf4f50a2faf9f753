//! Leases within one process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::InstallationId;
use store::clock::Moment;

use super::value::NotLeased;

/// The held locks and when they expire.
#[derive(Debug, Default)]
pub(super) struct LocalLocks(Mutex<HashMap<InstallationId, LocalLock>>);

/// One lock. The nonce distinguishes it from the next lock of the same installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalLock {
    until: Moment,
    nonce: [u8; 8],
}

impl LocalLocks {
    pub(super) fn take(
        &self,
        installation: &InstallationId,
        ttl: Duration,
    ) -> Result<LocalLock, NotLeased> {
        let now = Moment::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(installation).is_some_and(|lock| now < lock.until) {
            return Err(NotLeased::Held);
        }
        let lock = LocalLock {
            until: now + ttl,
            nonce: store::random::bytes(),
        };
        held.insert(installation.clone(), lock);
        Ok(lock)
    }

    pub(super) fn release(&self, installation: &InstallationId, lock: LocalLock) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(installation) == Some(&lock) {
            held.remove(installation);
        }
    }
}
