//! Sealing keys: their registration in the store.

pub(crate) mod registration;
