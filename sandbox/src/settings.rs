//! The settings that can be changed at run time.

use serde::{Deserialize, Serialize};

use crate::clock::millis;
use crate::{Config, grants, limits};

/// `GET /_sandbox/settings`; all times in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Live {
    pub(crate) token_lifetime_ms: u64,
    pub(crate) first_token_lifetime_ms: Option<u64>,
    pub(crate) replay_grace_ms: u64,
    pub(crate) replay_same_access_token: bool,
    pub(crate) latency_ms: u64,
    pub(crate) rate_limit: u32,
    pub(crate) rate_interval_ms: u64,
    pub(crate) daily_limit: u32,
    pub(crate) token_bytes: usize,
    pub(crate) revoke_replaced_grants: bool,
    pub(crate) webhook_retry_pause_ms: u64,
    /// Whether webhooks leave out `companyId`, as some of GHL's do.
    pub(crate) webhook_without_company_id: bool,
    /// Likewise, `userId`.
    pub(crate) webhook_without_user_id: bool,
}

/// `PUT /_sandbox/settings`: missing fields keep their value.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Change {
    token_lifetime_ms: Option<u64>,
    first_token_lifetime_ms: Option<u64>,
    replay_grace_ms: Option<u64>,
    replay_same_access_token: Option<bool>,
    latency_ms: Option<u64>,
    rate_limit: Option<u32>,
    rate_interval_ms: Option<u64>,
    daily_limit: Option<u32>,
    token_bytes: Option<usize>,
    revoke_replaced_grants: Option<bool>,
    webhook_retry_pause_ms: Option<u64>,
    webhook_without_company_id: Option<bool>,
    webhook_without_user_id: Option<bool>,
}

impl Live {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            token_lifetime_ms: millis(config.token_lifetime),
            first_token_lifetime_ms: config.first_token_lifetime.map(millis),
            replay_grace_ms: millis(config.replay_grace),
            replay_same_access_token: config.replay_same_access_token,
            latency_ms: millis(config.latency),
            rate_limit: config.rate_limit,
            rate_interval_ms: millis(config.rate_interval),
            daily_limit: config.daily_limit,
            token_bytes: config.token_bytes,
            revoke_replaced_grants: config.revoke_replaced_grants,
            webhook_retry_pause_ms: millis(config.webhook_retry_pause),
            webhook_without_company_id: false,
            webhook_without_user_id: false,
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        fn set<T>(value: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *value = new;
            }
        }
        set(&mut self.token_lifetime_ms, change.token_lifetime_ms);
        if change.first_token_lifetime_ms.is_some() {
            self.first_token_lifetime_ms = change.first_token_lifetime_ms;
        }
        set(&mut self.replay_grace_ms, change.replay_grace_ms);
        set(
            &mut self.replay_same_access_token,
            change.replay_same_access_token,
        );
        set(&mut self.latency_ms, change.latency_ms);
        set(&mut self.rate_limit, change.rate_limit);
        set(&mut self.rate_interval_ms, change.rate_interval_ms);
        set(&mut self.daily_limit, change.daily_limit);
        set(&mut self.token_bytes, change.token_bytes);
        set(
            &mut self.revoke_replaced_grants,
            change.revoke_replaced_grants,
        );
        set(
            &mut self.webhook_retry_pause_ms,
            change.webhook_retry_pause_ms,
        );
        set(
            &mut self.webhook_without_company_id,
            change.webhook_without_company_id,
        );
        set(
            &mut self.webhook_without_user_id,
            change.webhook_without_user_id,
        );
    }

    pub(crate) fn grants(&self) -> grants::Rules {
        grants::Rules {
            lifetime_ms: self.token_lifetime_ms,
            first_lifetime_ms: self.first_token_lifetime_ms,
            grace_ms: self.replay_grace_ms,
            replay_same_access_token: self.replay_same_access_token,
            revoke_replaced: self.revoke_replaced_grants,
        }
    }

    pub(crate) fn limits(&self) -> limits::Rules {
        limits::Rules {
            per_interval: self.rate_limit,
            interval_ms: self.rate_interval_ms,
            per_day: self.daily_limit,
        }
    }
}
