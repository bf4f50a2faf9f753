//! Schedules: sorted sets by when something is due.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use store::Timestamp;

use super::tables::{SORTED, set_score};
use super::{EmbeddedBackend, now};
use crate::backend::{DueEntries, DuePoll, POLL_DEPTH};
use crate::error::WriteError;

impl EmbeddedBackend {
    /// Reads the first entries of these partitions of a schedule.
    pub(super) fn poll_schedule(
        &self,
        partitions: &[u8],
        key: impl Fn(u8) -> String,
    ) -> Result<DuePoll, redb::Error> {
        let mut scheduled = Vec::new();
        for &partition in partitions {
            let heads = self.sorted(&key(partition), POLL_DEPTH)?;
            let times = heads.iter().map(|(at, _)| Timestamp::from_millis(*at));
            scheduled.extend(times.map(|at| (partition, at)));
        }
        Ok(DuePoll::of(scheduled, now()))
    }

    /// Takes entries of a schedule that are due, and reschedules them.
    pub(super) async fn claim_entries(
        &self,
        key: String,
        due: DueEntries,
        claim: Duration,
    ) -> Result<Vec<String>, WriteError> {
        self.write(move |store| claim_in(store, &key, due, claim))
            .await
    }
}

/// Takes the due entries of a schedule, and reschedules them.
fn claim_in(
    store: &WriteTransaction,
    key: &str,
    due: DueEntries,
    claim: Duration,
) -> Result<Vec<String>, redb::Error> {
    let DueEntries {
        limit, from, by, ..
    } = due;
    let now = now();
    let due: Vec<String> = {
        let sorted = store.open_table(SORTED)?;
        let from = from.map_or(i64::MIN, Timestamp::as_millis);
        let range = sorted.range((key, from, "")..=(key, by.as_millis(), "\u{10ffff}"))?;
        range
            .take(limit)
            .map(|entry| Ok(entry?.0.value().2.to_owned()))
            .collect::<Result<_, redb::Error>>()?
    };
    for id in &due {
        set_score(store, key, id, Some((now + claim).as_millis()))?;
    }
    Ok(due)
}
