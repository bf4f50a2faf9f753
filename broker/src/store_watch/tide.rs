//! How far the store remembers: a number that this process writes every second, in every part of the
//! store that can lose writes by itself.
//!
//! A store that holds an older number than was acknowledged has lost writes, whatever the reason. And
//! the age of the last number that it holds says how many: whatever it lost was written since.

use std::collections::BTreeMap;
use std::time::Duration;

use store::clock::Moment;

#[derive(Debug)]
pub(super) struct Tide {
    began: Moment,
    /// The last number that each part acknowledged.
    acknowledged: BTreeMap<usize, i64>,
}

/// What the parts held before the number that was just written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// One held an older number than it had acknowledged.
    pub is_lost: bool,
    /// Since when there may be writes that are lost; `None`: nobody knows.
    pub age: Option<Duration>,
}

impl Tide {
    pub(super) fn new() -> Self {
        Self {
            began: Moment::now(),
            acknowledged: BTreeMap::new(),
        }
    }

    /// The number to write now: milliseconds of a clock that nobody can set.
    pub(super) fn number(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes in what each part held when `written` was written; `None`: it did not answer.
    pub(super) fn read(&mut self, held: &[Option<Option<i64>>], written: i64) -> Read {
        let mut read = Read {
            is_lost: false,
            age: Some(Duration::ZERO),
        };
        for (part, held) in held.iter().enumerate() {
            let Some(held) = held else { continue };
            let Some(acknowledged) = self.acknowledged.insert(part, written) else {
                // The first one: it tells nothing of what was before.
                read.age = None;
                continue;
            };
            read.is_lost |= held.is_none_or(|held| held < acknowledged);
            // A number whose acknowledgement was lost is newer.
            let age = held.map(|held| u64::try_from(written - held).unwrap_or(0));
            read.age = match (read.age, age.map(Duration::from_millis)) {
                (Some(oldest), Some(age)) => Some(oldest.max(age)),
                (None, _) | (_, None) => None,
            };
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_store_that_holds_an_older_number_has_lost_writes_since() {
        let mut tide = Tide::new();
        assert_eq!(tide.read(&[Some(None)], 1_000).age, None);
        let quiet = tide.read(&[Some(Some(1_000))], 2_000);
        assert_eq!((quiet.is_lost, quiet.age), (false, seconds(1)));
        let lost = tide.read(&[Some(Some(1_000))], 3_000);
        assert_eq!((lost.is_lost, lost.age), (true, seconds(2)));
        let quiet = tide.read(&[Some(Some(3_000))], 4_000);
        assert!(!quiet.is_lost);
        let empty = tide.read(&[Some(None)], 5_000);
        assert_eq!((empty.is_lost, empty.age), (true, None));
    }

    #[test]
    fn a_number_whose_acknowledgement_was_lost_is_no_loss() {
        let mut tide = Tide::new();
        tide.read(&[Some(None)], 1_000);
        tide.read(&[None], 2_000);
        let read = tide.read(&[Some(Some(2_000))], 3_000);
        assert_eq!((read.is_lost, read.age), (false, seconds(1)));
    }

    #[test]
    fn a_part_that_was_away_is_as_old_as_its_last_number() {
        let mut tide = Tide::new();
        tide.read(&[Some(None), Some(None)], 1_000);
        tide.read(&[Some(Some(1_000)), None], 6_000);
        let back = tide.read(&[Some(Some(6_000)), Some(Some(1_000))], 7_000);
        assert_eq!((back.is_lost, back.age), (false, seconds(6)));
    }
}
