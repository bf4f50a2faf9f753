//! Everything about a process that is independent of the domain: settings, logs, metrics, readiness, shutdown, and
//! serving HTTP.

#![warn(missing_docs)]

pub mod client_address;
pub mod config;
pub mod connection_limits;
pub mod credentials;
pub mod error_body;
pub mod error_chain;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod handler;
mod http;
pub mod limits;
pub mod listen;
pub mod locks;
pub mod metrics;
pub mod openapi;
pub mod ops;
pub mod origin;
pub mod permits;
pub mod rate_limit;
pub mod readiness;
pub mod receive;
pub mod root;
pub mod shutdown;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod single_flight;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod workers;
