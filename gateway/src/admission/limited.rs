//! Why the gateway answers a call 429.

use std::time::Duration;

use store::Quota;

use super::queue::CAPACITY;

/// Why a call is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Limited {
    #[error(
        "GHL allows {max} calls per {} for this location, and this call cannot be sent in time",
        humantime::format_duration(*interval)
    )]
    Interval {
        max: u32,
        interval: Duration,
        retry_after: Duration,
    },
    #[error("{CAPACITY} calls already wait for this location's rate limit")]
    Full { retry_after: Duration },
    #[error("GHL's daily limit of calls for this location is used up")]
    Day { retry_after: Duration },
    #[error("The quota of this API key, {quota}, is used up")]
    Quota { quota: Quota, retry_after: Duration },
}

impl Limited {
    /// The exceeded limit: one of GHL's, or the key's quota.
    pub(crate) fn limit(&self) -> &'static str {
        match self {
            Self::Interval { .. } | Self::Full { .. } => "interval",
            Self::Day { .. } => "day",
            Self::Quota { .. } => "quota",
        }
    }

    /// How long a call would have to wait at least.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::Interval { retry_after, .. }
            | Self::Full { retry_after }
            | Self::Day { retry_after }
            | Self::Quota { retry_after, .. } => *retry_after,
        }
    }
}
