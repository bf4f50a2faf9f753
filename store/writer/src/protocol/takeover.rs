//! The takeover of a store by its only process at the start. It ends attempts of the previous process and
//! corrects records that were written while the clock was ahead.
//!
//! The store's time is one machine's time, and that machine may have started with a wrong clock. After a
//! start with the right clock such records lie in the future. Their tokens seem valid for hours after the
//! expiry, and nothing is due.

use std::time::Duration;

use store::Timestamp;
use store::record::Status;

use crate::installation::{Installation, Intent};

/// A smaller correction of the clock does no harm.
const TOLERANCE: Duration = Duration::from_secs(60);

/// A record that the new process changes before it refreshes anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The corrected record.
    pub next: Box<Installation>,
    /// Whether the record was written in the future.
    pub was_ahead: bool,
}

/// Ends an attempt of the previous process, and moves a record that was written in the future to now. In both
/// cases the installation is due at once. `None` if neither applies.
#[must_use]
pub fn take_over(current: &Installation, now: Timestamp) -> Option<Takeover> {
    let was_ahead = latest(current) > now + TOLERANCE;
    let is_open = current.intent.as_ref().is_some_and(|open| open.until > now);
    if !was_ahead && !is_open {
        return None;
    }
    let mut next = current.clone();
    if was_ahead {
        next.installed_at = next.installed_at.min(now);
        next.consented_at = next.consented_at.min(now);
        next.granted_at = next.granted_at.map(|at| at.min(now));
        next.refreshed_at = next.refreshed_at.map(|at| at.min(now));
        let longest = now + current.access.lifetime;
        next.access.expires_at = next.access.expires_at.map(|at| at.min(longest));
    }
    next.intent = next.intent.map(|open| ended(open, now));
    next.due = match current.access.status {
        Status::Active | Status::Paused => current.due.map(|_| now),
        Status::Invalid | Status::Revoked | Status::Static => current.due,
    };
    Some(Takeover {
        next: Box::new(next),
        was_ahead,
    })
}

/// The latest time at which the record was written, as far as it shows.
fn latest(current: &Installation) -> Timestamp {
    let issued = |at: Timestamp| at - current.access.lifetime;
    let moments = [
        current.refreshed_at,
        current.access.expires_at.map(issued),
        current.intent.as_ref().map(|open| open.opened_at),
    ];
    let moments = moments.into_iter().flatten();
    moments.fold(current.consented_at, Timestamp::max)
}

/// The intent of a process that is gone: its outcome is unknown. An intent that is a retry remains one.
fn ended(open: Intent, now: Timestamp) -> Intent {
    let first = if open.is_retry() {
        now - Duration::from_millis(1)
    } else {
        now
    };
    Intent {
        opened_at: open.opened_at.min(now),
        until: open.until.min(now),
        first_spent_at: open.first_spent_at.min(first),
        ..open
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIFETIME, NOW, WINDOW, installed, intent};
    use super::*;

    const HOURS: Duration = Duration::from_secs(6 * 3600);

    fn next(current: &Installation, now: Timestamp) -> Installation {
        *take_over(current, now).unwrap().next
    }

    #[test]
    fn record_from_the_future_is_due_now_and_its_expiry_is_capped() {
        let now = NOW - HOURS;
        let next = next(&installed(), now);
        assert_eq!(next.due, Some(now));
        assert_eq!(next.access.expires_at, Some(now + LIFETIME));
        assert_eq!((next.installed_at, next.consented_at), (now, now));
        assert_eq!(take_over(&next, now), None, "once");
    }

    #[test]
    fn record_from_the_past_is_unchanged() {
        let current = installed();
        for now in [NOW, NOW - TOLERANCE, NOW + HOURS] {
            assert_eq!(take_over(&current, now), None);
        }
    }

    #[test]
    fn attempt_from_the_future_is_ended_and_stays_a_retry() {
        let now = NOW - HOURS;
        let mut current = installed();
        current.intent = Some(intent("up", NOW));
        let open = next(&current, now).intent.unwrap();
        assert!(open.until <= now && !open.is_retry());
        current.intent = Some(Intent {
            first_spent_at: NOW - WINDOW,
            ..intent("up", NOW)
        });
        let open = next(&current, now).intent.unwrap();
        assert!(open.until <= now && open.is_retry());
    }

    #[test]
    fn open_attempt_of_the_previous_process_is_ended_with_unknown_outcome() {
        let mut current = installed();
        current.intent = Some(intent("up", NOW));
        current.due = Some(NOW + WINDOW);
        let now = NOW + WINDOW / 2;
        let taken = take_over(&current, now).unwrap();
        assert!(!taken.was_ahead);
        assert_eq!(taken.next.due, Some(now));
        let open = taken.next.intent.as_ref().unwrap();
        assert_eq!((open.until, open.first_spent_at), (now, NOW));
        assert_eq!(taken.next.access, current.access);
        assert_eq!(take_over(&taken.next, now), None, "once");
    }

    #[test]
    fn unrefreshed_installation_does_not_become_due() {
        let mut current = installed();
        current.access.status = Status::Invalid;
        current.due = None;
        assert_eq!(next(&current, NOW - HOURS).due, None);
    }
}
