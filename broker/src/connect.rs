//! What surrounds a consent: what the caller said before it, and where the browser goes afterwards.

pub(crate) mod context;
pub(crate) mod link;
pub(crate) mod outcome;
pub(crate) mod return_urls;

pub(crate) use context::Context;
pub(crate) use outcome::Outcome;
