//! A refusal of GHL is not the end: it may be wrong. The same token is tried again twice within a
//! minute while the access token goes on serving, and only then the installation is invalid. After
//! that it is tried quietly, more and more seldom, for a week.

use std::time::Duration;

use store::{Status, Timestamp};

use crate::installation::{Installation, Refused};

/// Refusals in a row that make an installation invalid.
pub const REFUSALS_TO_INVALID: u32 = 3;

/// When the token of a suspect is tried again, counted from the first refusal.
const SUSPECT: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// When a suspect is tried again while GHL refuses all.
pub(super) const DOUBTED: Duration = Duration::from_secs(60);
/// The same of an invalid installation.
const INVALID: [Duration; 5] = [
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(3 * 24 * 3600),
    Duration::from_secs(7 * 24 * 3600),
];

/// Counts one more refusal.
pub(super) fn again(current: &Installation, is_repeat: bool, now: Timestamp) -> Refused {
    let known = current.refused.as_ref();
    Refused {
        generation: current.access.generation,
        times: known.map_or(0, |known| known.times).saturating_add(1),
        // A clock that was set back must not make the first refusal one of the future.
        since: known.map_or(now, |known| known.since.min(now)),
        after_lost_answer: is_repeat || known.is_some_and(|known| known.after_lost_answer),
    }
}

/// Counts one more refusal, but not the one that would end the installation.
pub(super) fn doubted(current: &Installation, is_repeat: bool, now: Timestamp) -> Refused {
    let refused = again(current, is_repeat, now);
    Refused {
        times: refused.times.min(REFUSALS_TO_INVALID - 1),
        ..refused
    }
}

/// Suspect installations are active: their access token goes on serving.
pub(super) fn status(refused: &Refused) -> Status {
    if refused.times < REFUSALS_TO_INVALID {
        Status::Active
    } else {
        Status::Invalid
    }
}

/// When the token is tried next; `None`: never by itself.
pub(super) fn next_try(refused: &Refused, now: Timestamp) -> Option<Timestamp> {
    let planned = |tries: &[Duration]| {
        let mut tries = tries.iter().map(|after| refused.since + *after);
        tries.find(|at| *at > now)
    };
    match status(refused) {
        // A suspect is tried to the end, however long nobody had time for it.
        Status::Active => planned(&SUSPECT).or(Some(now + SUSPECT[0])),
        Status::Paused | Status::Invalid | Status::Revoked | Status::Static => planned(&INVALID),
    }
}

#[cfg(test)]
mod tests {
    use store::Generation;

    use super::*;

    const SINCE: Timestamp = Timestamp::from_millis(1_000_000);

    fn refused(times: u32) -> Refused {
        Refused {
            generation: Generation::FIRST,
            times,
            since: SINCE,
            after_lost_answer: false,
        }
    }

    fn tries(times: u32, now: Timestamp) -> Option<Duration> {
        next_try(&refused(times), now).map(|at| at.since(SINCE))
    }

    #[test]
    fn a_refused_token_is_tried_after_10_and_60_seconds_and_then_for_a_week() {
        let mut now = SINCE;
        let mut planned = Vec::new();
        for times in 1..=8 {
            let Some(after) = tries(times, now) else {
                break;
            };
            planned.push(after);
            now = SINCE + after;
        }
        assert_eq!(planned, [&SUSPECT[..], &INVALID[..]].concat());
        assert_eq!(status(&refused(2)), Status::Active);
        assert_eq!(status(&refused(3)), Status::Invalid);
    }

    #[test]
    fn a_suspect_that_nobody_had_time_for_is_still_tried() {
        let late = SINCE + Duration::from_secs(30 * 24 * 3600);
        assert_eq!(next_try(&refused(2), late), Some(late + SUSPECT[0]));
        assert_eq!(next_try(&refused(3), late), None);
    }
}
