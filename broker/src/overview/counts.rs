//! Counts of what this process does, in memory, until they are added to the store.
//!
//! They are of the process, as metrics are, and are counted at the same places.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use store_writer::writer::{Bucket, NamedCounts};

use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::{FailureKind, Outcome};

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// A token was refreshed.
    Refreshed,
    /// GHL refused a refresh token, or the location of one.
    Refused,
    /// GHL did not answer, or not with an answer that can be used.
    Unreachable,
    /// GHL refused the credentials of the app, or refreshes pause since it did.
    Credentials,
    /// evergreen could not refresh: its store, lock nodes, disk or keys.
    Own,
    /// A token of an agency's location was minted.
    Minted,
    /// A consent connected an installation.
    Connected,
    /// GHL sent a webhook that was taken.
    Webhook,
    /// A message was delivered to an endpoint.
    Delivered,
    /// An attempt to deliver a message failed.
    Undelivered,
}

impl Count {
    /// In the order of their declaration.
    pub(crate) const ALL: [Self; 10] = [
        Self::Refreshed,
        Self::Refused,
        Self::Unreachable,
        Self::Credentials,
        Self::Own,
        Self::Minted,
        Self::Connected,
        Self::Webhook,
        Self::Delivered,
        Self::Undelivered,
    ];

    /// The name in the store and in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Own => "own",
            Self::Minted => "minted",
            Self::Connected => "connected",
            Self::Webhook => "webhooks",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
        }
    }

    /// The count of an attempt. `None` if it is neither a refresh nor a failure.
    pub(crate) const fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Refreshed { .. } => Some(Self::Refreshed),
            Outcome::Failed(kind) => Some(Self::of_failure(*kind)),
            Outcome::Unavailable(obstacle, _) => Some(Self::of_obstacle(*obstacle)),
            Outcome::Journaled | Outcome::UnknownApp => Some(Self::Own),
            Outcome::Superseded
            | Outcome::Adopted
            | Outcome::NotDue(_)
            | Outcome::Busy(_)
            | Outcome::RateLimited(_)
            | Outcome::Contained
            | Outcome::NotRefreshable(_)
            | Outcome::UnknownInstallation => None,
        }
    }

    const fn of_failure(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Transient
            | FailureKind::Ambiguous
            | FailureKind::UnreadableAnswer
            | FailureKind::ForeignAnswer => Self::Unreachable,
            FailureKind::ClientRejected => Self::Credentials,
            FailureKind::Paused
            | FailureKind::Suspect
            | FailureKind::InvalidGrant
            | FailureKind::Lost
            | FailureKind::StillInvalid
            | FailureKind::BadRequest
            | FailureKind::ScopeMissing
            | FailureKind::NotInstalled => Self::Refused,
        }
    }

    /// The count of an attempt that did not begin.
    pub(crate) const fn of_obstacle(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Paused => Self::Credentials,
            Obstacle::Store
            | Obstacle::StoreRefused
            | Obstacle::SealingKeys
            | Obstacle::Contended
            | Obstacle::NoQuorum
            | Obstacle::LockNodeRefused
            | Obstacle::File
            | Obstacle::Restoring
            | Obstacle::NoAgency
            | Obstacle::Late => Self::Own,
        }
    }
}

static COUNTS: [AtomicU64; Count::ALL.len()] = [const { AtomicU64::new(0) }; Count::ALL.len()];

/// Counts something that happened once.
pub(crate) fn add(count: Count) {
    COUNTS[count as usize].fetch_add(1, Ordering::Relaxed);
}

/// Counts that the store does not have yet, by their buckets.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<Bucket, NamedCounts>);

impl Pending {
    /// Takes what was counted since the last time.
    pub(crate) fn collect(&mut self, now: Bucket) {
        for count in Count::ALL {
            let number = COUNTS[count as usize].swap(0, Ordering::Relaxed);
            self.add(now, count.as_str(), number);
        }
        // Those of a store that was away for a day are of no use any more.
        let first = now.first_of(Bucket::DAY);
        self.0.retain(|bucket, _| *bucket >= first);
    }

    /// Adds to a count.
    pub(crate) fn add(&mut self, bucket: Bucket, name: &str, number: u64) {
        if number > 0 {
            let counts = self.0.entry(bucket).or_default();
            let count = counts.entry(name.to_owned()).or_default();
            *count = count.saturating_add(number);
        }
    }

    /// The counts of the oldest bucket.
    pub(crate) fn first(&self) -> Option<(Bucket, &NamedCounts)> {
        let (bucket, counts) = self.0.first_key_value()?;
        Some((*bucket, counts))
    }

    /// Forgets the counts of the oldest bucket, which the store has.
    pub(crate) fn stored(&mut self) {
        self.0.pop_first();
    }

    /// Adds these counts to those of a day that begins with `first`.
    pub(crate) fn add_to(&self, day: &mut [NamedCounts], first: Bucket) {
        for (bucket, counts) in &self.0 {
            let place = bucket.after(first).and_then(|place| day.get_mut(place));
            let Some(sums) = place else { continue };
            for (name, number) in counts {
                let sum = sums.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::Timestamp;

    use super::*;

    fn bucket(number: u32) -> Bucket {
        Bucket::of(Timestamp::from_millis(0) + Duration::from_secs(300) * number)
    }

    #[test]
    fn attempts_are_counted_by_whose_fault_it_was() {
        let text = String::new;
        for (outcome, count) in [
            (
                Outcome::Failed(FailureKind::Transient),
                Some(Count::Unreachable),
            ),
            (
                Outcome::Failed(FailureKind::InvalidGrant),
                Some(Count::Refused),
            ),
            (
                Outcome::Failed(FailureKind::ClientRejected),
                Some(Count::Credentials),
            ),
            (
                Outcome::Unavailable(Obstacle::NoQuorum, text()),
                Some(Count::Own),
            ),
            (
                Outcome::Unavailable(Obstacle::Paused, text()),
                Some(Count::Credentials),
            ),
            (Outcome::Journaled, Some(Count::Own)),
            (Outcome::Superseded, None),
            (Outcome::Contained, None),
        ] {
            assert_eq!(Count::of(&outcome), count, "{outcome:?}");
        }
    }

    #[test]
    fn counts_are_indexed_in_declaration_order() {
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index, "{}", count.as_str());
        }
    }

    #[test]
    fn pending_counts_wait_for_the_store_for_a_day_and_are_shown_before() {
        let mut pending = Pending::default();
        pending.add(bucket(1000), "forwarded", 2);
        pending.add(bucket(1000), "forwarded", 3);
        pending.add(bucket(1001), "forwarded", 7);
        pending.add(bucket(1001), "ghl_429", 0);
        let mut day = vec![NamedCounts::new(); 2];
        day[0].insert("forwarded".to_owned(), 10);
        pending.add_to(&mut day, bucket(1000));
        assert_eq!((day[0]["forwarded"], day[1]["forwarded"]), (15, 7));
        assert!(!day[1].contains_key("ghl_429"));
        let (first, counts) = pending.first().unwrap();
        assert_eq!((first, counts["forwarded"]), (bucket(1000), 5));
        pending.stored();
        assert_eq!(pending.first().unwrap().0, bucket(1001));
        pending.collect(bucket(1001 + Bucket::DAY));
        assert_ne!(
            pending.first().map(|(bucket, _)| bucket),
            Some(bucket(1001))
        );
    }
}
