//! Counts of all installations, for metrics.

use std::time::Duration;

use store::record::Fields;
use store::{AppName, Generation, Status, Timestamp};

use super::{StoreWriter, WriteError};
use crate::backend::{Outline, Schedule, StoreStats};
use crate::installation::RefusalCount;

/// The state of an installation, for a count. Each has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its token is refreshed.
    Valid,
    /// As `Valid`, but GHL refused its refresh token once or twice.
    Suspect,
    /// GHL reports that the location is inactive.
    Paused,
    /// GHL refused its refresh token. The customer must consent again.
    Invalid,
    /// It was uninstalled or revoked.
    Revoked,
    /// A token without a refresh token.
    Static,
    /// A location of an agency that has no token now, since nobody calls it.
    Asleep,
    /// The record cannot be read.
    Unreadable,
}

impl State {
    /// Every state, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Valid,
        Self::Suspect,
        Self::Paused,
        Self::Invalid,
        Self::Revoked,
        Self::Static,
        Self::Asleep,
        Self::Unreadable,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Suspect => "suspect",
            Self::Paused => "paused",
            Self::Invalid => "invalid",
            Self::Revoked => "revoked",
            Self::Static => "static",
            Self::Asleep => "asleep",
            Self::Unreadable => "unreadable",
        }
    }

    /// The state of a record at `now`.
    fn of(outline: &Outline, now: Timestamp) -> Self {
        Self::read(outline, now).unwrap_or(Self::Unreadable)
    }

    fn read(outline: &Outline, now: Timestamp) -> Option<Self> {
        let fields: Fields = [
            ("st", &outline.status),
            ("par", &outline.parent),
            ("exp", &outline.expires_at),
            ("gen", &outline.generation),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
        .collect();
        let status = match outline.has_expiry {
            true => Status::Active,
            false => fields.parse("st").ok()?,
        };
        match status {
            Status::Active => {}
            Status::Paused => return Some(Self::Paused),
            Status::Invalid => return Some(Self::Invalid),
            Status::Revoked => return Some(Self::Revoked),
            Status::Static => return Some(Self::Static),
        }
        let refused = outline.refused.as_deref().filter(|json| !json.is_empty());
        if let Some(json) = refused {
            let refused: RefusalCount = serde_json::from_slice(json).ok()?;
            let generation: Generation = fields.parse("gen").ok()?;
            // A count of another generation is outdated.
            if refused.generation == generation {
                return Some(Self::Suspect);
            }
        }
        let expires_at: Option<i64> = fields.parse_optional("exp").ok()?;
        let is_of_agency = outline.parent.as_ref().is_some_and(|id| !id.is_empty());
        let has_expired = expires_at.is_none_or(|at| Timestamp::from_millis(at) <= now);
        match is_of_agency && has_expired {
            true => Some(Self::Asleep),
            false => Some(Self::Valid),
        }
    }
}

/// How many installations are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCount([u64; State::ALL.len()]);

impl StateCount {
    /// The number of installations in a state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.0[state as usize]
    }

    /// Adds another count, of other installations.
    pub fn merge(&mut self, other: &Self) {
        for (sum, number) in self.0.iter_mut().zip(other.0) {
            *sum += number;
        }
    }

    pub(super) fn from_array(counts: [u64; State::ALL.len()]) -> Self {
        Self(counts)
    }

    pub(super) fn add(&mut self, state: State) {
        self.0[state as usize] += 1;
    }
}

/// Access tokens that expire before they are refreshed, unless it is done soon. Each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtRisk {
    /// Expired.
    pub expired: u64,
    /// They expire within a minute.
    pub in_a_minute: u64,
    /// They expire within five minutes, and not within one.
    pub in_five_minutes: u64,
}

/// Installations that are due, and that no broker has claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their number.
    pub due: u64,
    /// When the first of them was due.
    pub oldest: Option<Timestamp>,
}

impl StoreWriter {
    /// Counts all installations.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn stats(&self) -> Result<StoreStats, WriteError> {
        self.backend.stats().await
    }

    /// Counts the access tokens that expire soon after `now`, the store's time.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_at_risk(&self, now: Timestamp) -> Result<AtRisk, WriteError> {
        let minutes = |count: u64| now + Duration::from_secs(60 * count);
        // The latest first, so that tokens that are refreshed meanwhile make no count negative.
        let in_five = self.backend.count_expiring(minutes(5)).await?;
        let in_one = self.backend.count_expiring(minutes(1)).await?;
        let expired = self.backend.count_expiring(now).await?;
        Ok(AtRisk {
            expired,
            in_a_minute: in_one.saturating_sub(expired),
            in_five_minutes: in_five.saturating_sub(in_one),
        })
    }

    /// Counts what is due at `now` on the schedules of an app.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn backlog(&self, app: &AppName, now: Timestamp) -> Result<Backlog, WriteError> {
        let mut oldest = None;
        for schedule in Schedule::ALL {
            let first = self.poll_due(schedule, app).await?.due.first().copied();
            oldest = oldest.into_iter().chain(first.map(|(_, at)| at)).min();
        }
        let due = self.count_due(app, now).await?;
        Ok(Backlog {
            due,
            oldest: oldest.filter(|_| due > 0),
        })
    }

    /// Adds up to `limit` installations of a partition to a count, from the one with the number `from` on. Returns how many
    /// it were. Fewer than `limit`: there are no more.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_states(
        &self,
        count: &mut StateCount,
        partition: u8,
        (from, limit): (usize, usize),
        now: Timestamp,
    ) -> Result<usize, WriteError> {
        let outlines = self.backend.outlines(partition, from, limit).await?;
        for outline in outlines.iter().flatten() {
            count.add(State::of(outline, now));
        }
        Ok(outlines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<Vec<u8>> {
        Some(value.as_bytes().to_vec())
    }

    #[test]
    fn state_is_read_from_the_fields_of_a_record() {
        let now = Timestamp::from_millis(1_000);
        let refused = |generation: u64| {
            let count = RefusalCount {
                generation: generation.to_string().parse().unwrap(),
                times: 1,
                since: now,
                after_lost_answer: false,
            };
            Some(serde_json::to_vec(&count).unwrap())
        };
        let refreshed = Outline {
            has_expiry: true,
            ..Outline::default()
        };
        let location = |expires_at| Outline {
            status: text("active"),
            parent: text("install_0"),
            expires_at: text(expires_at),
            ..Outline::default()
        };
        let suspect = |generation| Outline {
            generation: text("2"),
            refused: refused(generation),
            ..refreshed.clone()
        };
        let of_status = |status| Outline {
            status: text(status),
            ..Outline::default()
        };
        for (outline, state) in [
            (refreshed.clone(), State::Valid),
            (suspect(2), State::Suspect),
            (suspect(1), State::Valid),
            (location("2000"), State::Valid),
            (location("1000"), State::Asleep),
            (location(""), State::Asleep),
            (of_status("active"), State::Valid),
            (of_status("invalid"), State::Invalid),
            (of_status("revoked"), State::Revoked),
            (of_status("paused"), State::Paused),
            (of_status("static"), State::Static),
            (of_status("unheard-of"), State::Unreadable),
            (Outline::default(), State::Unreadable),
        ] {
            assert_eq!(State::of(&outline, now), state, "{outline:?}");
        }
    }

    #[test]
    fn states_are_counted_in_the_order_of_their_declaration() {
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index, "{}", state.as_str());
        }
    }
}
