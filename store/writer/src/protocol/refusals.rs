//! How often GHL must refuse a refresh token before its installation becomes invalid.
//!
//! A refusal may be wrong. The same token is retried twice within a minute, while the access token remains in
//! use. After the third refusal the installation is invalid. It is then retried at growing intervals for a
//! week.

use std::time::Duration;

use store::{Status, Timestamp};

use crate::installation::{Installation, RefusalCount};

/// The number of refusals in a row after which an installation is invalid.
pub const REFUSALS_TO_INVALID: u32 = 3;

/// When the token of a suspect installation is retried, counted from the first refusal.
const SUSPECT_RETRIES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// When a suspect installation is retried while GHL refuses all tokens.
pub(super) const WIDESPREAD_RETRY: Duration = Duration::from_secs(60);
/// When the token of an invalid installation is retried, counted from the first refusal.
const INVALID_RETRIES: [Duration; 5] = [
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(3 * 24 * 3600),
    Duration::from_secs(7 * 24 * 3600),
];

/// Counts one more refusal.
pub(super) fn count_refusal(
    current: &Installation,
    is_retry: bool,
    now: Timestamp,
) -> RefusalCount {
    let known = current.refused.as_ref();
    RefusalCount {
        generation: current.access.generation,
        times: known.map_or(0, |known| known.times).saturating_add(1),
        // If the clock was set back, the first refusal must not be in the future.
        since: known.map_or(now, |known| known.since.min(now)),
        after_lost_answer: is_retry || known.is_some_and(|known| known.after_lost_answer),
    }
}

/// Counts one more refusal, but never the one that makes the installation invalid.
pub(super) fn count_widespread_refusal(
    current: &Installation,
    is_retry: bool,
    now: Timestamp,
) -> RefusalCount {
    let refused = count_refusal(current, is_retry, now);
    RefusalCount {
        times: refused.times.min(REFUSALS_TO_INVALID - 1),
        ..refused
    }
}

/// The status after the refusals. A suspect installation is active, and its access token remains in use.
pub(super) fn status(refused: &RefusalCount) -> Status {
    if refused.times < REFUSALS_TO_INVALID {
        Status::Active
    } else {
        Status::Invalid
    }
}

/// When the token is retried; `None`: never automatically.
pub(super) fn next_try(refused: &RefusalCount, now: Timestamp) -> Option<Timestamp> {
    let planned = |tries: &[Duration]| {
        let mut tries = tries.iter().map(|after| refused.since + *after);
        tries.find(|at| *at > now)
    };
    match status(refused) {
        // A suspect installation is always retried, however late it is processed.
        Status::Active => planned(&SUSPECT_RETRIES).or(Some(now + SUSPECT_RETRIES[0])),
        Status::Paused | Status::Invalid | Status::Revoked | Status::Static => {
            planned(&INVALID_RETRIES)
        }
    }
}

#[cfg(test)]
mod tests {
    use store::Generation;

    use super::*;

    const SINCE: Timestamp = Timestamp::from_millis(1_000_000);

    fn refused(times: u32) -> RefusalCount {
        RefusalCount {
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
    fn refused_token_is_retried_after_10_and_60_seconds_and_then_for_a_week() {
        let mut now = SINCE;
        let mut planned = Vec::new();
        for times in 1..=8 {
            let Some(after) = tries(times, now) else {
                break;
            };
            planned.push(after);
            now = SINCE + after;
        }
        assert_eq!(
            planned,
            [&SUSPECT_RETRIES[..], &INVALID_RETRIES[..]].concat()
        );
        assert_eq!(status(&refused(2)), Status::Active);
        assert_eq!(status(&refused(3)), Status::Invalid);
    }

    #[test]
    fn overdue_suspect_is_still_retried() {
        let late = SINCE + Duration::from_secs(30 * 24 * 3600);
        assert_eq!(next_try(&refused(2), late), Some(late + SUSPECT_RETRIES[0]));
        assert_eq!(next_try(&refused(3), late), None);
    }
}
