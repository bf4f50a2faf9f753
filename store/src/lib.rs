//! The records of evergreen, and how they are read.
//!
//! The write half is `store-writer`, a package that gateways do not depend on. A process with this crate
//! alone can read access tokens and callers, and nothing else.

#![warn(missing_docs)]

pub mod allowed_call;
pub mod app;
pub mod audit;
pub mod browser_key;
pub mod caller;
pub mod clock;
mod compress;
pub mod connection;
pub mod consent_state;
pub mod console_session;
pub mod customer;
pub mod freshness;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
pub mod invalidation;
pub mod key_list;
pub mod keys;
pub mod lookup_request_mac;
pub mod metrics;
pub mod names;
pub mod quota;
pub mod random;
pub mod reader;
pub mod record;
pub mod refresh_request_mac;
pub mod seal;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use allowed_call::AllowedCall;
pub use app::{AppName, ClientId};
pub use browser_key::BrowserKey;
pub use caller::{Caller, KeyHash, Scope};
pub use clock::Timestamp;
pub use console_session::ConsoleSession;
pub use customer::{Customer, ExternalId, Tag};
pub use freshness::Freshness;
pub use id::{CompanyId, Generation, InstallationId, LocationId, UserType};
pub use invalidation::Invalidation;
pub use quota::Quota;
pub use reader::{ReadError, TokenReader};
pub use record::{AccessRecord, Status};
pub use seal::KeyRing;
