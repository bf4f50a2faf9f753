//! The limits that can change while a gateway runs, after its settings were read again. Clones of a pipeline share them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Config;

/// Limits that calls read when they need them. A call may see one limit of before and another one of after a change.
#[derive(Debug)]
pub(crate) struct Limits {
    max_body_bytes: AtomicU64,
    queue_timeout: Millis,
    refresh_wait: Millis,
    expired_wait: Millis,
    key_staleness: Millis,
}

/// A duration that can change, to the millisecond.
#[derive(Debug)]
struct Millis(AtomicU64);

impl Millis {
    fn new(duration: Duration) -> Self {
        Self(AtomicU64::new(millis(duration)))
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, duration: Duration) {
        self.0.store(millis(duration), Ordering::Relaxed);
    }
}

/// Settings are at most 10 years.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_body_bytes: AtomicU64::new(config.max_body_bytes),
            queue_timeout: Millis::new(config.queue_timeout),
            refresh_wait: Millis::new(config.refresh_wait),
            expired_wait: Millis::new(config.expired_wait),
            key_staleness: Millis::new(config.key_staleness),
        }
    }

    /// Uses the limits of these settings from now on.
    pub(crate) fn set(&self, config: &Config) {
        let max_body = config.max_body_bytes;
        self.max_body_bytes.store(max_body, Ordering::Relaxed);
        self.queue_timeout.set(config.queue_timeout);
        self.refresh_wait.set(config.refresh_wait);
        self.expired_wait.set(config.expired_wait);
        self.key_staleness.set(config.key_staleness);
    }

    /// The largest body of a caller.
    pub(crate) fn max_body_bytes(&self) -> u64 {
        self.max_body_bytes.load(Ordering::Relaxed)
    }

    /// How long a call waits for GHL's rate limit, unless its caller says otherwise.
    pub(crate) fn queue_timeout(&self) -> Duration {
        self.queue_timeout.get()
    }

    /// How long a call waits for a fresh token while the old one works.
    pub(crate) fn refresh_wait(&self) -> Duration {
        self.refresh_wait.get()
    }

    /// How long a call waits for a fresh token once the old one does not work.
    pub(crate) fn expired_wait(&self) -> Duration {
        self.expired_wait.get()
    }

    /// The same for a location of an agency. Its mint may wait until GHL's limit for the agency allows it.
    pub(crate) fn mint_wait(&self) -> Duration {
        self.expired_wait().max(self.queue_timeout())
    }

    /// For how long a key is accepted that cannot be read again.
    pub(crate) fn key_staleness(&self) -> Duration {
        self.key_staleness.get()
    }
}
