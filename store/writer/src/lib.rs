//! The only code that changes token state.
//!
//! Every change of an installation has the same shape. The writer reads the whole record, decides its next
//! state in a pure function ([`protocol`]), and swaps it in unless another process has written meanwhile. The
//! two backends can read and swap. They know nothing of the protocol.

#![warn(missing_docs)]

pub mod backend;
pub mod check;
pub mod consent;
pub mod details;
mod error;
pub mod escrow;
pub mod events;
pub mod factory;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod group_commit_db;
pub mod identity;
pub mod installation;
pub mod journal;
pub mod key_rotation;
pub mod lease;
pub mod lock_nodes;
pub mod moving;
pub mod outbox;
pub mod protocol;
pub mod raw_token_response;
mod rings;
pub mod sealing;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod trial;
pub mod writer;

pub use error::WriteError;
pub use escrow::Escrow;
pub use factory::{OpenStoreError, Store};
pub use grant::{Fingerprint, Grant};
pub use installation::{Installation, IntentId};
pub use journal::Journal;
pub use lease::{Lease, LeaseValue, Leases, NotLeased};
pub use lock_nodes::LockNodes;
pub use raw_token_response::RawTokenResponse;
pub use rings::Rings;
pub use writer::StoreWriter;
