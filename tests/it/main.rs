//! Everything that takes more than one crate: the real programs against real servers.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod callers;
mod checklist;
mod cluster;
mod coherence;
mod conformance;
mod crashes;
mod faults;
mod fleet;
mod leases;
mod limits;
mod metrics;
mod outage;
mod proxying;
mod revocation;
mod scale;
mod sentinel;
mod settings;
mod shutdown;
mod time;
mod transparency;
mod walls;
mod webhooks;
