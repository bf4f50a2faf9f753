//! When a failed delivery is tried again, and when it is given up.

use std::time::Duration;

use store::Timestamp;

/// How long a message is tried, from the time that it was put into the outbox.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// The pauses after the first failures, in seconds. The last one is repeated.
const PAUSES: [u64; 9] = [5, 30, 120, 300, 600, 1800, 3600, 7200, 14_400];
/// The part of a pause that jitter takes away or adds, so that messages that failed together do not come back together.
const JITTER: f64 = 0.2;

/// The pause before the next attempt. `attempts`: how many have failed, from 1 on. `jitter`: a random number from 0
/// to 1.
pub(crate) fn pause(attempts: u32, jitter: f64) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let seconds = PAUSES[index.min(PAUSES.len() - 1)];
    let jitter = if jitter.is_finite() { jitter } else { 0.5 };
    let factor = 1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0);
    Duration::from_secs(seconds).mul_f64(factor)
}

/// The longest pause that a clock which is right can have caused. A queue that is due later was scheduled by a clock
/// that was ahead.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 3600);

/// Whether a message is given up without an attempt. A message that was never tried gets an attempt, for example if no
/// broker ran for days, but not while the endpoint is down.
pub(crate) fn is_given_up(
    enqueued_at: Timestamp,
    now: Timestamp,
    has_failed: bool,
    is_down: bool,
) -> bool {
    is_dead(enqueued_at, now) && (has_failed || is_down)
}

/// Whether a message that could not be delivered is given up. It is a dead letter from then on.
pub(crate) fn is_dead(enqueued_at: Timestamp, now: Timestamp) -> bool {
    now.since(enqueued_at) >= LIFETIME
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_to_four_hours() {
        let pauses = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1000].map(|it| pause(it, 0.5).as_secs());
        let expected = [
            5, 30, 120, 300, 600, 1800, 3600, 7200, 14_400, 14_400, 14_400,
        ];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn jitter_moves_a_pause_by_a_fifth() {
        assert_eq!(pause(1, 0.0), Duration::from_secs(4));
        assert_eq!(pause(1, 1.0), Duration::from_secs(6));
    }

    #[test]
    fn message_is_dead_after_three_days() {
        let enqueued_at = Timestamp::from_millis(1_700_000_000_000);
        let last = enqueued_at + (LIFETIME - Duration::from_millis(1));
        assert!(!is_dead(enqueued_at, last));
        assert!(is_dead(enqueued_at, enqueued_at + LIFETIME));
        // A clock that was set back makes no message dead.
        assert!(!is_dead(enqueued_at, Timestamp::from_millis(0)));
    }

    #[test]
    fn old_message_is_given_up_unless_it_was_never_tried() {
        let enqueued_at = Timestamp::from_millis(1_700_000_000_000);
        let late = enqueued_at + LIFETIME;
        assert!(is_given_up(enqueued_at, late, true, false));
        assert!(is_given_up(enqueued_at, late, false, true));
        assert!(!is_given_up(enqueued_at, late, false, false));
        assert!(!is_given_up(enqueued_at, enqueued_at, true, true));
    }

    #[test]
    fn at_least_20_attempts_fit_into_the_lifetime() {
        let longest = |attempts| (1..attempts).map(|it| pause(it, 1.0)).sum::<Duration>();
        assert!(longest(20) < LIFETIME, "{:?}", longest(20));
    }

    proptest! {
        #[test]
        fn pause_is_within_its_bounds(attempts: u32, jitter: f64) {
            let pause = pause(attempts, jitter);
            prop_assert!(pause >= Duration::from_secs(4));
            prop_assert!(pause <= Duration::from_secs(14_400 * 6 / 5));
            prop_assert!(pause < LONGEST_PAUSE);
        }

        #[test]
        fn pause_never_shrinks_with_more_failures(attempts in 0_u32..50, jitter in 0.0..1.0) {
            prop_assert!(pause(attempts, jitter) <= pause(attempts + 1, jitter));
        }

        #[test]
        fn dead_message_stays_dead(enqueued: i64, now: i64, later in 0..u64::MAX / 2) {
            let (enqueued, now) = (Timestamp::from_millis(enqueued), Timestamp::from_millis(now));
            let later = now + Duration::from_millis(later);
            prop_assert!(!is_dead(enqueued, now) || is_dead(enqueued, later));
        }
    }
}
