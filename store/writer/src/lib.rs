//! The only verbs that change token state.
//!
//! Every change of an installation has one shape: read the whole record, decide in a pure function
//! ([`protocol`]) what it should become, and swap it in if nobody else wrote meanwhile. The two
//! backends know how to read and to swap, and nothing of the protocol.

pub mod backend;
pub mod check;
pub mod consent;
pub mod durable;
pub mod escrow;
pub mod grant;
pub mod identity;
pub mod installation;
pub mod journal;
pub mod lease;
pub mod lock_nodes;
pub mod open;
pub mod protocol;
pub mod raw_answer;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod writer;

pub use escrow::Escrow;
pub use grant::{Fingerprint, Grant};
pub use installation::{Installation, IntentId};
pub use journal::Journal;
pub use lease::{Lease, LeaseValue, Leases, NotLeased};
pub use lock_nodes::LockNodes;
pub use open::{OpenError, Rings, Store};
pub use raw_answer::RawAnswer;
pub use writer::{StoreWriter, WriteError};
