//! The locations of agencies: the list of them, and tokens for them.
//!
//! An agency consents once, for many locations. GHL gives a token of a location in exchange for the agency's. That spends
//! nothing that is valid once, so it needs no journal, and a repeated exchange is harmless.

mod grant;
pub(crate) mod list;
mod lookup;
pub(crate) mod mint;
pub(crate) mod revocation;
mod turns;

pub(crate) use grant::AgencyState;
pub(crate) use lookup::{Lookup, Lookups, Wanted};
pub(crate) use turns::AgencyTurns;
