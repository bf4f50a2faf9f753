//! The HTTP routes, and the only place where errors become responses.

mod anonymous;
mod broker_proxy;
mod endpoints;
mod error_response;
mod routes;
mod state;
mod token_endpoint;

pub(crate) use anonymous::AnonymousLimits;
pub(crate) use routes::{internal, proxy, public};
pub(crate) use state::Api;
