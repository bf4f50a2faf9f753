//! When GHL refuses our client id and secret, it refuses them for everybody: one alarm, and all
//! brokers pause, instead of a thousand installations that look dead.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// So many refusals in a row, without one success between, are not one installation's trouble.
const STREAK: u32 = 3;
/// How long everybody pauses; then one attempt finds out whether the pair is good again.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// Counts refusals of the client pair since the last success of this broker.
#[derive(Debug, Default)]
pub(crate) struct Streak(AtomicU32);

impl Streak {
    pub(crate) fn success(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Notes a refusal; true when everybody should pause.
    #[must_use]
    pub(crate) fn refused(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) + 1 >= STREAK
    }

    /// Whether one attempt at a time is enough to find out.
    #[must_use]
    pub(crate) fn is_suspect(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= STREAK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_between_refusals_clears_the_client_pair() {
        let streak = Streak::default();
        for _ in 0..10 {
            assert!(!streak.refused());
            assert!(!streak.refused());
            streak.success();
        }
        assert!(!streak.refused() && !streak.refused() && streak.refused());
        assert!(streak.is_suspect());
    }
}
