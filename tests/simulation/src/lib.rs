//! A deterministic simulation: the scheduler and worker of real brokers on one thread, with tokio's
//! paused clock, over a GHL, a store, lock nodes, disks and clocks that are simulated.
//!
//! A seed gives exactly one run. It plans the faults, and decides everything random: delays on the
//! network, ids, nonces and jitter. Nothing else may: no thread, no map with random order, and no
//! `select!` that is not `biased`.

mod audit;
mod faults;
mod gateway;
mod ghl;
mod log;
mod machine;
mod network;
mod nodes;
mod plan;
mod run;
mod store;
#[cfg(test)]
mod tests;
mod world;

pub use broker::simulation::Rules;
pub use plan::{Class, Plan};
pub use run::{Report, run};
