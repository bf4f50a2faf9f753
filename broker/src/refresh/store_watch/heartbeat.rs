//! The heartbeat: a number that this process writes every second to every part of the store that can lose
//! writes on its own.
//!
//! If a part holds an older number than it acknowledged, it has lost writes. The age of the number that it
//! holds bounds the loss: only later writes can be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use store::clock::Moment;

#[derive(Debug)]
pub(super) struct Heartbeat {
    started: Moment,
    /// The last number that each part acknowledged.
    acknowledged: BTreeMap<usize, i64>,
}

/// The state of the parts before the latest number was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    /// Whether a part held an older number than it had acknowledged.
    pub is_lost: bool,
    /// The age of the oldest write that may be lost. `None` if unknown.
    pub age: Option<Duration>,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self {
            started: Moment::now(),
            acknowledged: BTreeMap::new(),
        }
    }

    /// The number to write now: milliseconds of a monotonic clock.
    pub(super) fn number(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Records what each part held when `written` was written. `None` for a part that did not respond.
    pub(super) fn record(&mut self, held: &[Option<Option<i64>>], written: i64) -> Observation {
        let mut observation = Observation {
            is_lost: false,
            age: Some(Duration::ZERO),
        };
        for (part, held) in held.iter().enumerate() {
            let Some(held) = held else { continue };
            let Some(acknowledged) = self.acknowledged.insert(part, written) else {
                // The first number says nothing about earlier writes.
                observation.age = None;
                continue;
            };
            observation.is_lost |= held.is_none_or(|held| held < acknowledged);
            // The held number is newer if its acknowledgement was lost.
            let age = held.map(|held| u64::try_from(written - held).unwrap_or(0));
            observation.age = match (observation.age, age.map(Duration::from_millis)) {
                (Some(oldest), Some(age)) => Some(oldest.max(age)),
                (None, _) | (_, None) => None,
            };
        }
        observation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn older_number_than_acknowledged_is_a_loss() {
        let mut heartbeat = Heartbeat::new();
        assert_eq!(heartbeat.record(&[Some(None)], 1_000).age, None);
        let quiet = heartbeat.record(&[Some(Some(1_000))], 2_000);
        assert_eq!((quiet.is_lost, quiet.age), (false, seconds(1)));
        let lost = heartbeat.record(&[Some(Some(1_000))], 3_000);
        assert_eq!((lost.is_lost, lost.age), (true, seconds(2)));
        let quiet = heartbeat.record(&[Some(Some(3_000))], 4_000);
        assert!(!quiet.is_lost);
        let empty = heartbeat.record(&[Some(None)], 5_000);
        assert_eq!((empty.is_lost, empty.age), (true, None));
    }

    #[test]
    fn lost_acknowledgement_is_not_a_loss() {
        let mut heartbeat = Heartbeat::new();
        heartbeat.record(&[Some(None)], 1_000);
        heartbeat.record(&[None], 2_000);
        let observation = heartbeat.record(&[Some(Some(2_000))], 3_000);
        assert_eq!((observation.is_lost, observation.age), (false, seconds(1)));
    }

    #[test]
    fn age_of_an_unreachable_part_is_that_of_its_last_number() {
        let mut heartbeat = Heartbeat::new();
        heartbeat.record(&[Some(None), Some(None)], 1_000);
        heartbeat.record(&[Some(Some(1_000)), None], 6_000);
        let back = heartbeat.record(&[Some(Some(6_000)), Some(Some(1_000))], 7_000);
        assert_eq!((back.is_lost, back.age), (false, seconds(6)));
    }
}
