//! What evergreen stores about an installation, and how it is read.
//!
//! The write half lives in `store-writer`, a package that a gateway does not depend on: with only
//! this crate in reach a process can read access tokens and callers, and nothing else.

pub mod caller;
pub mod change;
pub mod clock;
pub mod connection;
pub mod consent_state;
pub mod freshness;
pub mod id;
pub mod keys;
mod pack;
pub mod quota;
pub mod random;
pub mod reader;
pub mod record;
pub mod refresh_pass;
pub mod seal;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use caller::{Caller, KeyHash, Scope};
pub use change::Change;
pub use clock::Timestamp;
pub use freshness::Freshness;
pub use id::{CompanyId, Generation, InstallationId, LocationId, UserType};
pub use quota::Quota;
pub use reader::{ReadError, TokenReader};
pub use record::{AccessRecord, Status};
pub use seal::KeyRing;
