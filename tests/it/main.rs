//! Everything that takes more than one crate: the real programs against real servers. What loads the machine is in
//! `tests/load`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod callers;
mod checklist;
mod cluster;
mod coherence;
mod conformance;
mod data_dir;
mod disk;
mod docs;
mod faults;
mod forgetful;
mod limits;
mod metrics;
mod outage;
mod partitions;
mod proxying;
mod revocation;
mod sentinel;
mod settings;
mod shutdown;
mod store_check;
mod time;
mod transparency;
mod walls;
mod webhooks;
