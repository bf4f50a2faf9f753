//! Interfaces that replace the lock nodes in a simulation. The simulated disk is
//! [`GroupCommitDb::simulated`](crate::group_commit_db::GroupCommitDb::simulated). The simulated store
//! implements [`Backend`](crate::backend::Backend).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use store::InstallationId;

use crate::installation::IntentId;
use crate::journal::entry::Entry;
use crate::lease::value::{LeaseValue, NotLeased};
use crate::lock_nodes::quorum::NoMajority;

/// Leases: replaces the Redlock of [`Leases`](crate::Leases).
pub trait SimulatedLocks: Debug + Send + Sync + 'static {
    /// Tries once to take the lease for `ttl`.
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

/// GHL's responses in escrow: replaces the lock nodes of [`Escrow`](crate::Escrow).
pub trait SimulatedEscrow: Debug + Send + Sync + 'static {
    /// Stores a response on a majority of the nodes.
    fn keep<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), NoMajority>>;
    /// The stored responses of an installation.
    fn find<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Vec<Entry>, NoMajority>>;
    /// The installations with stored responses.
    fn installations(&self) -> BoxFuture<'_, Result<BTreeSet<InstallationId>, NoMajority>>;
    /// Deletes a response in the background.
    fn forget(&self, id: &InstallationId, intent: &IntentId);
}
