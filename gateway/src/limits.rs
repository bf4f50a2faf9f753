//! GHL's rate limits, kept instead of run into: calls over a location's limit wait for their turn.
//!
//! What is left of a limit is learned from GHL's answers (`told`, `budget`), which is all that
//! replicas share. While a location has plenty, a call costs a short lock before and after it.
//! When it has not, calls wait in a queue of their location (`queue`) that a task serves for as
//! long as there is one; no location knows of another's. `turn` puts this around a call.

mod budget;
mod limit;
mod queue;
mod told;
mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use store::{KeyHash, Quota};
use tokio::time::Instant;

pub(crate) use limit::{Limit, Permit};
pub(crate) use queue::Rank;
pub(crate) use turn::{Answered, Entered};

use crate::locked;
use crate::metrics::Queued;
use queue::CAPACITY;

/// How often the limits that nobody holds any longer are looked for, in new ones.
const SWEEP_EVERY: usize = 1024;

/// The limits of all locations and companies whose tokens are held.
pub(crate) struct Limits {
    metrics: Arc<Queued>,
    by_name: Mutex<HashMap<Box<str>, Weak<Limit>>>,
}

/// On whose behalf a call waits, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) caller: Option<KeyHash>,
    pub(crate) deadline: Instant,
    /// How much of its body is in memory meanwhile, in bytes.
    pub(crate) held: usize,
}

/// Why a call is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Limited {
    #[error(
        "GHL takes {max} calls per {} of this location, and this one's turn does not come in time",
        humantime::format_duration(*interval)
    )]
    Interval {
        max: u32,
        interval: Duration,
        retry_after: Duration,
    },
    #[error("{CAPACITY} calls wait for this location's turn at GHL already")]
    Full { retry_after: Duration },
    #[error("GHL's daily limit of calls for this location is used up")]
    Day { retry_after: Duration },
    #[error("The quota of this API key, {quota}, is used up")]
    Quota { quota: Quota, retry_after: Duration },
}

impl Limits {
    pub(crate) fn new(metrics: Queued) -> Self {
        Self {
            metrics: Arc::new(metrics),
            by_name: Mutex::default(),
        }
    }

    /// The limit of this location or company: the same one for as long as anybody holds it.
    pub(crate) fn of(&self, name: &str) -> Arc<Limit> {
        let mut by_name = locked(&self.by_name);
        if let Some(held) = by_name.get(name).and_then(Weak::upgrade) {
            return held;
        }
        if by_name.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            by_name.retain(|_, limit| limit.strong_count() > 0);
        }
        let limit = Arc::new(Limit::new(Arc::clone(&self.metrics)));
        by_name.insert(name.into(), Arc::downgrade(&limit));
        limit
    }
}

impl Limited {
    /// Which limit it is about: one of GHL's, or the key's quota.
    pub(crate) fn limit(&self) -> &'static str {
        match self {
            Self::Interval { .. } | Self::Full { .. } => "interval",
            Self::Day { .. } => "day",
            Self::Quota { .. } => "quota",
        }
    }

    /// How long a call would have to wait, at least.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::Interval { retry_after, .. }
            | Self::Full { retry_after }
            | Self::Day { retry_after }
            | Self::Quota { retry_after, .. } => *retry_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_for_as_long_as_it_is_held() {
        let limits = Limits::new(Queued::new());
        let held = limits.of("loc1");
        assert!(Arc::ptr_eq(&held, &limits.of("loc1")));
        assert!(!Arc::ptr_eq(&held, &limits.of("loc2")));
        for number in 0..10 * SWEEP_EVERY {
            limits.of(&number.to_string());
        }
        assert!(locked(&limits.by_name).len() <= SWEEP_EVERY);
        assert!(Arc::ptr_eq(&held, &limits.of("loc1")));
    }
}
