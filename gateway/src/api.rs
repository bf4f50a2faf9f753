//! The HTTP routes, and the only place where errors become responses.

mod anonymous;
mod broker_proxy;
mod cors;
mod endpoints;
mod error_response;
mod log_level;
mod mcp;
mod routes;
mod span;
mod state;
mod token_endpoint;

pub(crate) use anonymous::AnonymousLimits;
pub(crate) use cors::CorsOrigins;
pub(crate) use log_level::routes as log_level;
pub use routes::openapi;
pub(crate) use routes::{internal, preflight, proxy, public};
pub(crate) use state::Api;
