//! Outgoing messages: evergreen's own events, and GHL's webhooks that are forwarded.
//!
//! | module | contents |
//! | --- | --- |
//! | `config`, `endpoint` | the endpoints, their settings, and which messages they get |
//! | `signature` | signatures (Standard Webhooks) |
//! | `address` | which addresses may be reached |
//! | `deliveries`, `delivery` | the loops that deliver what is in the outbox |
//! | `attempt`, `attempts` | delivers the messages of one queue, and counts failed attempts |
//! | `bounds`, `sweep` | how much is kept, and for how long |
//! | `message` | messages as they are stored, and as they are sent |
//! | `client`, `resolver`, `delivery_error` | sends one message |
//! | `retry`, `gate` | when a delivery is attempted, and when a message is given up |

pub(crate) mod address;
mod attempt;
pub(crate) mod attempts;
pub(crate) mod bounds;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod deliveries;
pub(crate) mod delivery;
pub(crate) mod delivery_error;
pub(crate) mod endpoint;
pub(crate) mod gate;
pub(crate) mod message;
mod resolver;
pub(crate) mod retry;
pub(crate) mod signature;
pub(crate) mod sweep;
