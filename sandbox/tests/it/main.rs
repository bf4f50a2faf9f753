//! The sandbox over a real socket.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic as tests may"
)]

mod agencies;
mod api;
mod apps;
mod conformance;
mod consent;
mod faults;
mod harness;
mod installed;
mod ledger;
mod limits;
mod location_tokens;
mod mcp;
mod medias;
mod oauth;
mod records;
mod scopes;
mod webhook_delivery;
mod webhooks;
