//! Scenarios that load the machine. They are a binary of their own, so that no more of them run at once than there are
//! cores, while those of `it` mostly wait and run many at once.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod burst;
mod client_credentials;
mod crashes;
mod fleet;
mod leases;
mod overload;
mod scale;
mod upload;
