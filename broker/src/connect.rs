//! The context of a consent: the caller's link, and the destination of the browser afterwards.

pub(crate) mod context;
pub(crate) mod link;
pub(crate) mod outcome;
pub(crate) mod return_urls;

pub(crate) use context::Context;
pub(crate) use outcome::Outcome;
