//! Other limits while the broker runs, after its settings were read again.

use crate::broker::CONSENT_ADDRESSES;
use crate::{Broker, Config};

/// The settings with limits of a broker that [`Broker::reload_limits`] changes.
pub const RELOADED: &[&str] = &[
    "EVERGREEN_CONSENT_RATE",
    "EVERGREEN_REFRESH_CONCURRENCY",
    "EVERGREEN_REFRESH_RATE",
];

/// The settings of apps and endpoints that [`Broker::reload`] changes, besides sections.
pub const RELOADED_APPS: &[&str] = &[
    "EVERGREEN_APPS_DIR",
    "EVERGREEN_APP_LOGO_URL",
    "EVERGREEN_APP_TITLE",
    "EVERGREEN_EVENTS_SECRET",
    "EVERGREEN_EVENTS_URL",
    "GHL_AUTHORIZE_URL",
    "GHL_CLIENT_ID",
    "GHL_CLIENT_SECRET",
    "GHL_LOGIN_WINDOW",
    "GHL_REDIRECT_URI",
    "GHL_SCOPES",
    "GHL_SSO_KEY",
    "GHL_WEBHOOK_ED25519_KEY",
    "GHL_WEBHOOK_RSA_KEY",
];

impl Broker {
    /// Uses the limits of these settings from now on. Refreshes in flight go on. It needs the runtime.
    pub async fn reload_limits(&self, config: &Config) {
        let inner = &self.0;
        let rate = config.consent_rate;
        inner
            .consent_limits
            .set(rate, rate.times(CONSENT_ADDRESSES));
        inner.worker.set_concurrency(config.scheduler.concurrency);
        let mut rate_limiter = inner.schedulers.rate_limiter.lock().await;
        rate_limiter.set(config.scheduler.rate);
    }
}
