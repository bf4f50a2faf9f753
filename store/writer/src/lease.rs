//! The lease of one installation: who may start a refresh.
//!
//! A lease keeps brokers out of each other's way. What keeps the token chain whole is the commit's
//! fence, so a lease that ran out harms nothing: after losing it a broker *starts* no call, and an
//! answer that comes late is kept.

mod local;
mod node;
mod redlock;

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use store::InstallationId;
use store::connection::BadAddress;

/// Hands out leases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Local(Arc<local::Held>),
    Redlock(Arc<redlock::Redlock>),
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLeased {
    #[error("another broker holds the lease")]
    Held,
    #[error("{reachable} of {nodes} lock nodes answer, {needed} are needed")]
    Unreachable {
        reachable: usize,
        nodes: usize,
        needed: usize,
    },
    #[error("a lock node refuses: {0}")]
    Misconfigured(String),
}

/// The right to start a refresh of one installation, until it runs out.
///
/// Every ending has a name: [`Leases::release`] gives it back, [`Lease::let_run_out`] leaves it to
/// its time.
#[derive(Debug)]
#[must_use = "a lease that is dropped blocks its installation until it runs out"]
pub struct Lease {
    installation: InstallationId,
    /// Taken before the lock was asked for.
    since: Instant,
    ttl: Duration,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Local(local::Ticket),
    Redlock(rslock::Lock),
}

impl Leases {
    /// Leases inside one process.
    #[must_use]
    pub fn local() -> Self {
        Self(Kind::Local(Arc::default()))
    }

    /// Leases by Redlock over 1, 3 or 5 independent Redis masters.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub fn redlock(urls: &[SecretString], broker: &str) -> Result<Self, BadAddress> {
        let redlock = redlock::Redlock::start(urls, broker)?;
        Ok(Self(Kind::Redlock(Arc::new(redlock))))
    }

    /// Tries once to take the lease of an installation for `ttl`.
    ///
    /// # Errors
    /// Tells contention, an outage and a wrong setting apart.
    pub async fn take(
        &self,
        installation: &InstallationId,
        ttl: Duration,
    ) -> Result<Lease, NotLeased> {
        let since = Instant::now();
        let lock = match &self.0 {
            Kind::Local(held) => Lock::Local(held.take(installation, ttl)?),
            Kind::Redlock(redlock) => Lock::Redlock(redlock.take(installation, ttl).await?),
        };
        Ok(Lease {
            installation: installation.clone(),
            since,
            ttl,
            lock,
        })
    }

    /// Gives a lease back, so that others need not wait for it to run out.
    pub async fn release(&self, lease: Lease) {
        match (&self.0, lease.lock) {
            (Kind::Local(held), Lock::Local(ticket)) => held.release(&lease.installation, ticket),
            (Kind::Redlock(redlock), Lock::Redlock(lock)) => redlock.release(lock).await,
            (Kind::Local(_), Lock::Redlock(_)) | (Kind::Redlock(_), Lock::Local(_)) => {
                debug_assert!(false, "a lease is given back where it was taken");
            }
        }
    }
}

impl Lease {
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// Since before it was asked for.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// What is surely left of it: the drift of the nodes' clocks is taken off.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let drift = self.ttl / 100 + Duration::from_millis(2);
        self.ttl
            .saturating_sub(drift)
            .saturating_sub(self.since.elapsed())
    }

    /// Keeps others out for the rest of its time.
    pub fn let_run_out(self) {}
}
