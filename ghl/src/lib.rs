//! How GoHighLevel (GHL) behaves: its token endpoint, its errors, its API conventions, its webhooks, its custom pages.
//!
//! Facts about GHL are in this crate and nowhere else. Their sources are GHL's OpenAPI documents and
//! changelog, and reports of people who run integrations.

#![warn(missing_docs)]

pub mod agency;
pub mod api;
mod client_span;
pub mod consent;
pub mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod mcp;
pub mod operations;
pub mod ownership;
pub mod scrub;
pub mod token_endpoint;
pub mod token_response;
pub mod token_row;
pub mod user_context;
pub mod webhook;

pub use agency::{AgencyApi, AgencyFailure};
pub use failure::Failure;
pub use ownership::Owner;
pub use token_endpoint::TokenEndpoint;
pub use token_response::TokenResponse;
pub use token_row::TokenRow;
pub use user_context::UserContext;
