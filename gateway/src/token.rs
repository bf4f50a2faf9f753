//! Access tokens in memory. They are read from the store, invalidated when they change, and refreshed when old.

pub(crate) mod cache;
pub(crate) mod cache_invalidation;
pub(crate) mod freshness;
pub(crate) mod location_lookup;
pub(crate) mod provider;
pub(crate) mod refresher;
pub(crate) mod sources;
