//! Reads over all partitions.

use store::{InstallationId, Timestamp, keys};

use super::tables::{SORTED, table};
use super::{EmbeddedBackend, NEVER};
use crate::backend::StoreStats;

/// See [`Backend::stats`](crate::backend::Backend::stats).
pub(super) fn stats(store: &EmbeddedBackend) -> Result<StoreStats, redb::Error> {
    let mut stats = StoreStats::default();
    for partition in 0..=u8::MAX {
        let expiries = store.sorted(&keys::expiry(partition), usize::MAX)?;
        stats.installations += expiries.len() as u64;
        for (score, _) in expiries.iter().filter(|(score, _)| *score != NEVER) {
            stats.refreshing += 1;
            let at = Timestamp::from_millis(*score);
            let nearest = stats.nearest_expiry.map_or(at, |least| least.min(at));
            stats.nearest_expiry = Some(nearest);
        }
    }
    Ok(stats)
}

/// See [`Backend::count_expiring`](crate::backend::Backend::count_expiring).
pub(super) fn count_expiring(store: &EmbeddedBackend, by: Timestamp) -> Result<u64, redb::Error> {
    let Some(sorted) = table(store.file.read()?.open_table(SORTED))? else {
        return Ok(0);
    };
    let mut count = 0;
    for partition in 0..=u8::MAX {
        let key = keys::expiry(partition);
        let first = (key.as_str(), i64::MIN, "");
        let last = (key.as_str(), by.as_millis(), "\u{10ffff}");
        count += sorted.range(first..=last)?.count() as u64;
    }
    Ok(count)
}

/// See [`Backend::family`](crate::backend::Backend::family).
pub(super) fn members(
    store: &EmbeddedBackend,
    family: &str,
) -> Result<Vec<InstallationId>, redb::Error> {
    let mut members = Vec::new();
    for partition in 0..=u8::MAX {
        let fields = store.hash(&keys::family(partition, family))?;
        members.extend(fields.iter().filter_map(|(id, _)| id.parse().ok()));
    }
    members.sort_unstable();
    Ok(members)
}
