//! Scenarios with high CPU load. They are a separate binary, so that at most one per core runs at a time. The tests
//! of `it` mostly wait, so many of them run concurrently.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod agencies;
mod agency_crashes;
mod burst;
mod client_credentials;
mod console;
mod crashes;
mod event_crashes;
mod fleet;
mod leases;
mod overload;
mod scale;
mod upload;
