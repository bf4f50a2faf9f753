//! The audit log: who did what with tokens, keys and installations.
//!
//! Brokers write [`Entry`]s. Gateways cannot write to the store, so they report [`Event`]s to a broker, which makes
//! entries of them.

mod calls;
mod coalesce;
mod day;
mod entry;
mod event;
mod mac;
mod text;

pub use calls::{Calls, GatewayReport};
pub use coalesce::{Coalescer, Noted, Subject};
pub use day::{BadDay, Day};
pub use entry::{Action, By, Entry, EntryId, KeyName, Outcome};
pub use event::{Delivered, Event, Happened, MAX_REPORT_BYTES, Refusal, Report};
pub use mac::{BodyHash, Pass};
pub use text::CleanText;

/// The most entries that the store keeps. A file keeps all.
pub const MOST_ENTRIES: usize = 10_000;

/// The most entries about fetched tokens that the store keeps, in a list of their own. A service that fetches the tokens of
/// 10,000 installations each minute makes as many entries, and must not push out who revoked a key.
pub const MOST_FETCHES: usize = 10_000;

/// The most entries about strangers that the store keeps, in a list of their own. So strangers cannot push the other
/// entries out.
pub const MOST_STRANGERS: usize = 1_000;
