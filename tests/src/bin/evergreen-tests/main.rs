//! `evergreen-tests`: what takes too long to be a test. It starts the real programs, measures, and
//! says what it saw.

mod bench;
mod chaos;

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
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Args::parse().command {
        Command::Bench(what) => bench::act(what).await,
        Command::Chaos(args) => chaos::run(&args).await,
    }
}
