//! The refresh protocol: how a single-use refresh token is spent once and its successor is never lost.
//!
//! - `scheduler` finds due installations, and `worker` runs one refresh.
//! - `window`, `outage` and `breaker` decide whether a refresh may start.
//! - `outcome` classifies failures. `outcome` and `outage/state` are pure decisions.
//! - `recovery`, `restore`, `store_watch` and `store_monitor` repair what a crash or a store lost.

pub(crate) mod breaker;
pub(crate) mod crash_point;
pub(crate) mod obstacle;
pub(crate) mod outage;
pub(crate) mod outcome;
pub(crate) mod rate_limiter;
pub(crate) mod recovery;
pub(crate) mod refresh_log;
pub(crate) mod restore;
#[cfg(feature = "simulation")]
pub(crate) mod rules;
pub(crate) mod scheduler;
mod spans;
pub(crate) mod store_monitor;
pub(crate) mod store_watch;
pub(crate) mod window;
pub(crate) mod worker;
