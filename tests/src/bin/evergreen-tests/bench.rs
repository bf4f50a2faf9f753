//! Benchmarks.

mod leases;
mod refresh;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Refreshes per second, what each costs, and in which order they happen
    Refresh(refresh::Args),
    /// How long a lease takes with all lock nodes well, and with one that hangs
    Leases(leases::Args),
}

pub(crate) async fn act(what: Bench) -> Result<(), Box<dyn std::error::Error>> {
    match what {
        Bench::Refresh(args) => refresh::run(&args).await,
        Bench::Leases(args) => leases::run(&args).await,
    }
}
