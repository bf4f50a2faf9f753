//! `evergreen-tools`: what takes too long to be a test. It starts the real programs, measures, and
//! says what it saw.

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
    /// How fast, how much, how large
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Faults of all kinds at random, and an audit
    Chaos(chaos::Args),
    /// Real brokers in a simulated world, one run for each seed
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
