//! The sandbox over a real socket.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic as tests may"
)]

mod api;
mod conformance;
mod consent;
mod faults;
mod harness;
mod ledger;
mod limits;
mod medias;
mod oauth;
mod webhooks;
