//! Numbers for the overview, as a backend keeps them: counts of five minutes each, and which processes run. Nothing
//! depends on them.

use std::collections::BTreeMap;

use store::{InstallationId, Timestamp};

use super::BackendFuture;

/// How long counts are kept: a day, and the five minutes that are not over.
pub(crate) const BUCKETS_KEPT: u32 = 24 * 12 + 1;
/// The lifetime of a bucket where keys expire.
pub(crate) const BUCKET_TTL: std::time::Duration = std::time::Duration::from_secs(25 * 3600);

/// Counts by their names.
pub type NamedCounts = BTreeMap<String, u64>;

/// The part of a store that answers what happened lately. A backend without it knows nothing.
pub trait StatsBackend: Send + Sync {
    /// Adds to the counts of a bucket, at once. Counts of more than a day ago are removed, or expire.
    fn add_counts(&self, bucket: u32, counts: NamedCounts) -> BackendFuture<'_, ()> {
        let _ = (bucket, counts);
        Box::pin(async { Ok(()) })
    }

    /// The counts of `len` buckets from `first` on, one for each. Those of an unknown bucket are empty.
    fn counts(&self, first: u32, len: u32) -> BackendFuture<'_, Vec<NamedCounts>> {
        let _ = first;
        Box::pin(async move { Ok(vec![NamedCounts::new(); len as usize]) })
    }

    /// Notes that processes run, as JSON by name, and forgets others.
    fn note_seen(&self, seen: Vec<(String, String)>, gone: Vec<String>) -> BackendFuture<'_, ()> {
        let _ = (seen, gone);
        Box::pin(async { Ok(()) })
    }

    /// The processes that were noted, as JSON by name.
    fn seen(&self) -> BackendFuture<'_, BTreeMap<String, String>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }

    /// The installations whose access tokens expire first, the soonest first.
    fn soonest_expiries(
        &self,
        limit: usize,
    ) -> BackendFuture<'_, Vec<(InstallationId, Timestamp)>> {
        let _ = limit;
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// The soonest of the first entries of all partitions.
pub(crate) fn soonest(
    mut all: Vec<(InstallationId, Timestamp)>,
    limit: usize,
) -> Vec<(InstallationId, Timestamp)> {
    all.sort_unstable_by(|(a, first), (b, second)| first.cmp(second).then_with(|| a.cmp(b)));
    all.truncate(limit);
    all
}
