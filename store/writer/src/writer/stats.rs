//! Numbers for the overview. Nothing depends on them: a write that fails loses numbers alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::{InstallationId, Timestamp, keys};

use super::{State, StateCount, StoreWriter, WriteError};
use crate::backend::stats::BUCKETS_KEPT;
pub use crate::backend::stats::NamedCounts;

/// How long a count of all installations is remembered that no broker renews.
const FLEET_COUNT_TTL: Duration = Duration::from_secs(24 * 3600);

/// Five minutes, of which events are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u32);

impl Bucket {
    /// The length of a bucket.
    pub const LENGTH: Duration = Duration::from_secs(300);
    /// The buckets of a day.
    pub const DAY: u32 = BUCKETS_KEPT - 1;

    /// The bucket of a time.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let length = i64::try_from(Self::LENGTH.as_millis()).unwrap_or(i64::MAX);
        let number = at.as_millis().div_euclid(length);
        Self(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
    }

    /// When it begins.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        Timestamp::from_millis(0) + Self::LENGTH * self.0
    }

    /// The first of the `len` buckets that end with this one.
    #[must_use]
    pub fn first_of(self, len: u32) -> Self {
        Self(self.0.saturating_sub(len.saturating_sub(1)))
    }

    /// How many buckets this one is after `first`. `None` if it is before it.
    #[must_use]
    pub fn after(self, first: Self) -> Option<usize> {
        self.0.checked_sub(first.0).map(|after| after as usize)
    }
}

/// A count of all installations, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCount {
    /// When the count ended.
    pub at: Timestamp,
    /// How many installations are in each state.
    pub states: StateCount,
}

impl StoreWriter {
    /// Adds to the counts of a bucket. Counts of a day before it are removed.
    ///
    /// # Errors
    /// When the store is unavailable or refuses. A write without an answer may have been done.
    pub async fn add_counts(&self, bucket: Bucket, counts: NamedCounts) -> Result<(), WriteError> {
        if counts.is_empty() {
            return Ok(());
        }
        self.backend.add_counts(bucket.0, counts).await
    }

    /// The counts of a day, with the last bucket at its end.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn counts(&self, last: Bucket) -> Result<Vec<NamedCounts>, WriteError> {
        let first = last.first_of(Bucket::DAY);
        self.backend.counts(first.0, Bucket::DAY).await
    }

    /// Notes that processes run, as JSON by name, and forgets others.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn note_seen(
        &self,
        seen: Vec<(String, String)>,
        gone: Vec<String>,
    ) -> Result<(), WriteError> {
        self.backend.note_seen(seen, gone).await
    }

    /// The processes that were noted, as JSON by name.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn seen(&self) -> Result<Vec<(String, String)>, WriteError> {
        Ok(self.backend.seen().await?.into_iter().collect())
    }

    /// Up to `limit` installations whose access tokens expire first, the soonest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn soonest_expiries(
        &self,
        limit: usize,
    ) -> Result<Vec<(InstallationId, Timestamp)>, WriteError> {
        self.backend.soonest_expiries(limit).await
    }

    /// Shows a count of all installations to other brokers.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn share_fleet_count(&self, count: &FleetCount) -> Result<(), WriteError> {
        let key = keys::LAST_FLEET_COUNT;
        let next = serde_json::to_string(count).unwrap_or_default();
        let held = self.backend.get(key).await?;
        // If another broker was faster, its count is as good.
        self.backend
            .compare_and_set(key, held.as_deref(), Some(&next), FLEET_COUNT_TTL)
            .await
            .map(drop)
    }

    /// The last count of all installations. `None` if there is none.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn fleet_count(&self) -> Result<Option<FleetCount>, WriteError> {
        let held = self.backend.get(keys::LAST_FLEET_COUNT).await?;
        Ok(held.and_then(|json| serde_json::from_str(&json).ok()))
    }
}

/// By the names of the states. States that this build does not know are left out.
impl Serialize for StateCount {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(State::ALL.map(|state| (state.as_str(), self.of(state))))
    }
}

impl<'de> Deserialize<'de> for StateCount {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let named = NamedCounts::deserialize(from)?;
        let of = |state: State| named.get(state.as_str()).copied().unwrap_or_default();
        Ok(Self::from_array(State::ALL.map(of)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_every_five_minutes_and_a_day_has_288() {
        let at = |seconds: i64| Bucket::of(Timestamp::from_millis(seconds * 1000));
        assert_eq!(at(299), at(0));
        assert_eq!(at(300).begin(), Timestamp::from_millis(300_000));
        let (last, day) = (at(900 * 300 + 7), Bucket::DAY);
        assert_eq!(last.after(last.first_of(day)), Some(287));
        assert_eq!(at(0).after(last), None);
        assert_eq!(at(600).first_of(day), at(0), "nothing is before 1970");
    }

    #[test]
    fn fleet_count_reads_back_and_ignores_states_of_other_builds() {
        let mut states = StateCount::default();
        states.add(State::Valid);
        states.add(State::Asleep);
        let at = Timestamp::from_millis(7);
        let json = serde_json::to_string(&FleetCount { at, states }).unwrap();
        let json = json.replace("\"paused\":0", "\"new\":3");
        let read: FleetCount = serde_json::from_str(&json).unwrap();
        assert_eq!(read, FleetCount { at, states });
    }
}
