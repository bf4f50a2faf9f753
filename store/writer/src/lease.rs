//! The lease of one installation: who may start a refresh.
//!
//! A lease keeps brokers out of each other's way. What keeps the token chain whole is the commit's
//! fence, so a lease that ran out harms nothing: after losing it a broker *starts* no call, and an
//! answer that comes late is kept.

mod local;
mod redlock;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::InstallationId;
use store::clock::Moment;

use crate::lock_nodes::LockNodes;

/// Hands out leases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Local(Arc<local::Held>),
    Redlock(Arc<redlock::Redlock>),
    #[cfg(feature = "simulation")]
    Simulated(Arc<dyn crate::simulation::Locks>),
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
/// [`Leases::release`] ends it; one that is dropped keeps others out for the rest of its time.
#[derive(Debug)]
#[must_use = "a lease that is dropped blocks its installation until it runs out"]
pub struct Lease {
    installation: InstallationId,
    /// Taken before the lock was asked for.
    since: Moment,
    ttl: Duration,
    lock: Lock,
}

/// What a lease is held by on the lock nodes: a random value. It outlives the process that took the
/// lease, and whoever has it can end the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseValue(Vec<u8>);

#[cfg(feature = "simulation")]
impl LeaseValue {
    #[must_use]
    pub fn random() -> Self {
        Self(store::random::bytes::<20>().to_vec())
    }
}

#[derive(Debug)]
enum Lock {
    Local(local::Ticket),
    Redlock(rslock::Lock),
    #[cfg(feature = "simulation")]
    Simulated(LeaseValue),
}

impl Leases {
    /// Leases inside one process.
    #[must_use]
    pub fn local() -> Self {
        Self(Kind::Local(Arc::default()))
    }

    /// Leases by Redlock over independent Redis masters.
    #[must_use]
    pub fn redlock(nodes: LockNodes) -> Self {
        Self(Kind::Redlock(Arc::new(redlock::Redlock::over(nodes))))
    }

    /// Leases on simulated lock nodes.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(locks: Arc<dyn crate::simulation::Locks>) -> Self {
        Self(Kind::Simulated(locks))
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
        let since = Moment::now();
        let lock = match &self.0 {
            Kind::Local(held) => Lock::Local(held.take(installation, ttl)?),
            Kind::Redlock(redlock) => Lock::Redlock(redlock.take(installation, ttl).await?),
            #[cfg(feature = "simulation")]
            Kind::Simulated(locks) => Lock::Simulated(locks.take(installation, ttl).await?),
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
            #[cfg(feature = "simulation")]
            (Kind::Simulated(locks), Lock::Simulated(value)) => {
                locks.end(&lease.installation, &value).await;
            }
            (Kind::Local(_), Lock::Redlock(_)) | (Kind::Redlock(_), Lock::Local(_)) => {
                debug_assert!(false, "a lease is given back where it was taken");
            }
            #[cfg(feature = "simulation")]
            (Kind::Simulated(_), _) | (_, Lock::Simulated(_)) => {
                debug_assert!(false, "a lease is given back where it was taken");
            }
        }
    }

    /// Ends the lease of a process that is known to be dead, so that nobody need wait for it to run out.
    /// One that was given back or has run out is nobody's, and another's is held by another value.
    pub async fn end(&self, installation: &InstallationId, value: &LeaseValue) {
        match &self.0 {
            // It died with its process.
            Kind::Local(_) => {}
            Kind::Redlock(redlock) => redlock.end(installation, value).await,
            #[cfg(feature = "simulation")]
            Kind::Simulated(locks) => locks.end(installation, value).await,
        }
    }
}

impl Lease {
    /// For [`Leases::end`], by a later process; `None` for a lease that does not outlive this one.
    #[must_use]
    pub fn value(&self) -> Option<LeaseValue> {
        match &self.lock {
            Lock::Local(_) => None,
            Lock::Redlock(lock) => Some(LeaseValue(lock.val.clone())),
            #[cfg(feature = "simulation")]
            Lock::Simulated(value) => Some(value.clone()),
        }
    }

    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// Before it was asked for.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
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
}
