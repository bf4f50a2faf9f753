//! The upstreams, GHL and the broker: connections and requests to them.

pub(crate) mod base_url;
pub(crate) mod body;
mod cause;
mod client;
pub(crate) mod connector;
mod cookies;
pub(crate) mod headers;
pub(crate) mod outbound;
mod pool;
mod probe;
mod spans;
mod timed_body;

pub(crate) use client::{Failure, Kind, Peer, SendError, Upstream};
pub(crate) use spans::span_of_question;
