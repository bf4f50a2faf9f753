//! GoHighLevel's wire: its token endpoint, its errors, its API's conventions, its webhooks.
//!
//! Facts about GHL are in this crate and nowhere else.

pub mod answer;
pub mod api;
pub mod consent;
pub mod failure;
pub mod ownership;
pub mod token_endpoint;
pub mod webhook;

pub use answer::Answer;
pub use failure::Failure;
pub use ownership::Owner;
pub use token_endpoint::TokenEndpoint;
