//! A deterministic simulation: the scheduler and worker of real brokers on one thread with tokio's paused
//! clock. GHL, the store, the lock nodes, the disks and the clocks are simulated.
//!
//! A seed determines a run completely: the faults, network delays, ids, nonces and jitter. So the code under
//! simulation must not use threads, maps with random order, or a `select!` that is not `biased`.

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
