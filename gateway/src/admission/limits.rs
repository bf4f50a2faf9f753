//! The rate limits of all locations.
//!
//! GHL's responses say how many calls remain (`rate_limit_headers`, `rate_window`). Replicas share nothing else.
//! While a location has enough calls left, a call takes a short lock before and after it. Otherwise calls wait in
//! the queue of their location (`queue`), which a task serves. Locations do not affect each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use service::locks::lock;

use super::limit::RateLimit;
use crate::metrics::Queued;

/// After this many new limits, those that are no longer held are removed.
const SWEEP_EVERY: usize = 1024;

/// The limits of all locations and companies whose tokens are cached.
pub(crate) struct RateLimits {
    metrics: Arc<Queued>,
    by_name: Mutex<HashMap<Box<str>, Weak<RateLimit>>>,
}

impl RateLimits {
    pub(crate) fn new(metrics: Queued) -> Self {
        Self {
            metrics: Arc::new(metrics),
            by_name: Mutex::default(),
        }
    }

    /// The limit of this location or company. All holders share the same one.
    pub(crate) fn of(&self, name: &str) -> Arc<RateLimit> {
        let mut by_name = lock(&self.by_name);
        if let Some(held) = by_name.get(name).and_then(Weak::upgrade) {
            return held;
        }
        if by_name.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            by_name.retain(|_, limit| limit.strong_count() > 0);
        }
        let limit = Arc::new(RateLimit::new(Arc::clone(&self.metrics)));
        by_name.insert(name.into(), Arc::downgrade(&limit));
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_is_shared_while_held_and_then_dropped() {
        let limits = RateLimits::new(Queued::new());
        let held = limits.of("loc1");
        assert!(Arc::ptr_eq(&held, &limits.of("loc1")));
        assert!(!Arc::ptr_eq(&held, &limits.of("loc2")));
        for number in 0..10 * SWEEP_EVERY {
            limits.of(&number.to_string());
        }
        assert!(lock(&limits.by_name).len() <= SWEEP_EVERY);
        assert!(Arc::ptr_eq(&held, &limits.of("loc1")));
    }
}
