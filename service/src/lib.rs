//! The manners of a process, with no word of the domain in it: how settings are read, what is
//! logged and measured, when it is ready, how it stops, and how it listens.

#![warn(missing_docs)]

pub mod config;
pub mod credentials;
mod http;
pub mod listen;
pub mod locks;
pub mod ops;
pub mod readiness;
pub mod shutdown;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod telemetry;
pub mod trace;
pub mod workers;
