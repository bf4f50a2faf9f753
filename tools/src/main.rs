//! `evergreen-tools`: benchmarks, chaos runs and simulations. They take too long to be tests.

#![allow(rustdoc::broken_intra_doc_links, reason = "clap's help has brackets")]

mod bench;
mod chaos;
mod simulate;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure throughput, cost and memory
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Inject random faults of all kinds into a deployment, and audit the result
    Chaos(chaos::Args),
    /// Run real brokers in a simulated environment, one run for each seed
    Simulate(simulate::Args),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let real = tokio::runtime::Runtime::new;
    match Args::parse().command {
        Command::Bench(what) => real()?.block_on(bench::act(what)),
        Command::Chaos(args) => real()?.block_on(chaos::run(&args)),
        // Each run has a runtime of its own.
        Command::Simulate(args) => simulate::act(&args),
    }
}
