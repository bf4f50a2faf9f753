//! Admission of calls: a concurrency limit, and GHL's rate limit for each location.

pub(crate) mod concurrency;
pub(crate) mod limit;
pub(crate) mod limited;
pub(crate) mod limits;
mod queue;
pub(crate) mod rate_limit_headers;
mod rate_window;

pub(crate) use queue::Priority;
