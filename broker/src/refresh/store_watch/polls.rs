//! The findings of the polls of the store, for the broker's readiness.

use std::error::Error;
use std::time::Duration;

use service::error_chain::chain;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Polls {
    answered_at: Option<Instant>,
    error: Option<String>,
}

/// The findings of the last polls. A poll reads and writes.
#[derive(Debug)]
pub(crate) struct LastPoll {
    /// Since the last poll that succeeded. `None` if none has.
    pub(crate) answered_ago: Option<Duration>,
    /// Why the last poll failed. `None` if it succeeded.
    pub(crate) error: Option<String>,
}

impl Polls {
    pub(super) fn note<E: Error>(&mut self, result: &Result<(), E>) {
        match result {
            Ok(()) => (self.answered_at, self.error) = (Some(Instant::now()), None),
            Err(error) => self.error = Some(chain(error)),
        }
    }

    pub(super) fn last(&self) -> LastPoll {
        LastPoll {
            answered_ago: self.answered_at.map(|at| at.elapsed()),
            error: self.error.clone(),
        }
    }
}
