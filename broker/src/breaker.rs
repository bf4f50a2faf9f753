//! When GHL refuses our client id and secret, it refuses them for everybody: one alarm, and all
//! brokers pause, instead of a thousand installations that look dead.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::InstallationId;

/// So many installations refused in a row, without one success between, are not one
/// installation's trouble.
const STREAK: usize = 3;
/// How long everybody pauses; then one attempt finds out whether the pair is good again.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);
/// For how long a success proves that the pair is good.
const PROOF: Duration = Duration::from_secs(10 * 60);

/// Who was refused for the client pair since the last success of this broker.
#[derive(Debug, Default)]
pub(crate) struct Streak(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    refused: HashSet<InstallationId>,
    last_success: Option<Instant>,
}

impl Streak {
    pub(crate) fn success(&self) {
        let mut state = self.state();
        state.refused.clear();
        state.last_success = Some(Instant::now());
    }

    /// Notes a refusal; true when everybody should pause.
    #[must_use]
    pub(crate) fn refused(&self, id: &InstallationId) -> bool {
        let mut state = self.state();
        if state.refused.len() < STREAK {
            state.refused.insert(id.clone());
        }
        state.refused.len() >= STREAK
    }

    /// Whether one attempt at a time is enough to find out.
    #[must_use]
    pub(crate) fn is_suspect(&self) -> bool {
        self.state().refused.len() >= STREAK
    }

    /// Whether others were lately refreshed with the same pair, so that a refusal is about the one
    /// who got it: GHL gives the same answer for a grant that was revoked.
    #[must_use]
    pub(crate) fn is_pair_proven(&self) -> bool {
        let last_success = self.state().last_success;
        last_success.is_some_and(|at| at.elapsed() < PROOF)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_installation_alone_never_stops_the_others() {
        let streak = Streak::default();
        let id = InstallationId::random();
        assert!((0..100).all(|_| !streak.refused(&id)));
        assert!(!streak.is_suspect());
    }

    #[test]
    fn a_success_between_refusals_clears_the_client_pair() {
        let streak = Streak::default();
        let refuse = || streak.refused(&InstallationId::random());
        for _ in 0..10 {
            assert!(!refuse() && !refuse());
            streak.success();
        }
        assert!(streak.is_pair_proven());
        assert!(!refuse() && !refuse() && refuse());
        assert!(streak.is_suspect());
    }
}
