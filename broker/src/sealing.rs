//! Sealing keys: their registration in the store, and the rotation of the rings.

pub(crate) mod journal;
pub(crate) mod registration;
pub(crate) mod reload;
pub(crate) mod rotation;
