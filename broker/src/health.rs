//! Checks that decide whether this broker is ready: its files and the safety of its store.

pub(crate) mod files;
pub(crate) mod readiness;
pub(crate) mod store_check;
