//! Other limits while the gateway runs, after its settings were read again.

use crate::{Config, Gateway};

/// The settings of a gateway that [`Gateway::reload`] changes.
pub const RELOADED: &[&str] = &[
    "EVERGREEN_ACCESS_LOG",
    "EVERGREEN_ANONYMOUS_RATE",
    "EVERGREEN_EXPIRED_WAIT",
    "EVERGREEN_KEY_STALENESS",
    "EVERGREEN_MAX_BODY",
    "EVERGREEN_MAX_REQUESTS",
    "EVERGREEN_MAX_REQUESTS_PER_KEY",
    "EVERGREEN_QUEUE_TIMEOUT",
    "EVERGREEN_REFRESH_WAIT",
];

impl Gateway {
    /// Uses the limits of these settings from now on. Calls in progress go on: with fewer permits than before, none is
    /// given until enough have come back. It needs the runtime.
    pub fn reload(&self, config: &Config) {
        let pipeline = &self.api.pipeline;
        pipeline.limits.set(config);
        pipeline.admission.concurrency.resize(config.max_requests);
        pipeline.callers.resize_shares(config.max_requests_per_key);
        self.api.anonymous.set_rate(config.anonymous_rate);
        self.api.access_log.set_mode(config.access_log);
    }
}
