//! What a simulation puts in the place of the lock nodes. The simulated disk is
//! [`Durable::simulated`](crate::durable::Durable::simulated); the store is a
//! [`Backend`](crate::backend::Backend) like any other.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use store::InstallationId;

use crate::escrow::NoMajority;
use crate::installation::IntentId;
use crate::journal::Entry;
use crate::lease::{LeaseValue, NotLeased};

/// Leases, as [`Leases`](crate::Leases) has them of Redlock.
pub trait Locks: Debug + Send + Sync + 'static {
    fn take<'a>(
        &'a self,
        installation: &'a InstallationId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<LeaseValue, NotLeased>>;
    /// Ends the lease that is held by `value`, and no other.
    fn end<'a>(
        &'a self,
        installation: &'a InstallationId,
        value: &'a LeaseValue,
    ) -> BoxFuture<'a, ()>;
}

/// Answers in escrow, as [`Escrow`](crate::Escrow) keeps them.
pub trait Shelf: Debug + Send + Sync + 'static {
    fn keep<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), NoMajority>>;
    fn find<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Vec<Entry>, NoMajority>>;
    fn installations(&self) -> BoxFuture<'_, Result<BTreeSet<InstallationId>, NoMajority>>;
    /// Returns at once; nobody hears of what becomes of it.
    fn forget(&self, id: &InstallationId, intent: &IntentId);
}
