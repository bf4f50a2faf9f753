//! The lease of one installation: the right to start a refresh.
//!
//! A lease only keeps brokers from working on the same installation. The fence of the commit protects the
//! token chain, so an expired lease does no harm. After its lease has expired a broker starts no call, and it
//! still commits a late response.

mod local;
mod redlock;
pub(crate) mod value;

use std::sync::Arc;
use std::time::Duration;

use store::InstallationId;
use store::clock::Moment;

pub use value::{LeaseValue, NotLeased};

use crate::lock_nodes::LockNodes;

/// Grants leases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Local(Arc<local::LocalLocks>),
    Redlock(Arc<redlock::Redlock>),
    #[cfg(feature = "simulation")]
    Simulated(Arc<dyn crate::simulation::SimulatedLocks>),
}

/// The right to start a refresh of one installation, until it expires.
///
/// [`Leases::release`] ends it. A lease that is dropped excludes others until it expires.
#[derive(Debug)]
#[must_use = "a dropped lease blocks its installation until it expires"]
pub struct Lease {
    installation: InstallationId,
    /// Measured before the lock was requested.
    since: Moment,
    ttl: Duration,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Local(local::LocalLock),
    Redlock(rslock::Lock),
    #[cfg(feature = "simulation")]
    Simulated(LeaseValue),
}

impl Leases {
    /// Leases within one process.
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
    pub fn simulated(locks: Arc<dyn crate::simulation::SimulatedLocks>) -> Self {
        Self(Kind::Simulated(locks))
    }

    /// Tries once to take the lease of an installation for `ttl`.
    ///
    /// # Errors
    /// When another broker holds the lease, no majority answers, or a node is misconfigured.
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

    /// Releases a lease, so that others need not wait for its expiry.
    pub async fn release(&self, lease: Lease) {
        match (&self.0, lease.lock) {
            (Kind::Local(held), Lock::Local(lock)) => held.release(&lease.installation, lock),
            (Kind::Redlock(redlock), Lock::Redlock(lock)) => redlock.release(lock).await,
            #[cfg(feature = "simulation")]
            (Kind::Simulated(locks), Lock::Simulated(value)) => {
                locks.end(&lease.installation, &value).await;
            }
            (Kind::Local(_), Lock::Redlock(_)) | (Kind::Redlock(_), Lock::Local(_)) => {
                debug_assert!(false, "a lease is released where it was taken");
            }
            #[cfg(feature = "simulation")]
            (Kind::Simulated(_), _) | (_, Lock::Simulated(_)) => {
                debug_assert!(false, "a lease is released where it was taken");
            }
        }
    }

    /// Ends the lease of a process that is known to be dead, so that others need not wait for its expiry. Has
    /// no effect on a lease with another value.
    pub async fn end(&self, installation: &InstallationId, value: &LeaseValue) {
        match &self.0 {
            // A local lease died with its process.
            Kind::Local(_) => {}
            Kind::Redlock(redlock) => redlock.end(installation, value).await,
            #[cfg(feature = "simulation")]
            Kind::Simulated(locks) => locks.end(installation, value).await,
        }
    }
}

impl Lease {
    /// The value for [`Leases::end`] in a later process; `None` for a lease that does not outlive this one.
    #[must_use]
    pub fn value(&self) -> Option<LeaseValue> {
        match &self.lock {
            Lock::Local(_) => None,
            Lock::Redlock(lock) => Some(LeaseValue::from_bytes(lock.val.clone())),
            #[cfg(feature = "simulation")]
            Lock::Simulated(value) => Some(value.clone()),
        }
    }

    /// The installation that the lease is for.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// The time just before the lease was requested.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// The time since just before the lease was requested.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long the lease is certainly still held. The drift of the nodes' clocks is subtracted.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let drift = self.ttl / 100 + Duration::from_millis(2);
        self.ttl
            .saturating_sub(drift)
            .saturating_sub(self.since.elapsed())
    }
}
