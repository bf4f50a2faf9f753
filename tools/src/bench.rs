//! Benchmarks.

mod cache_invalidation;
mod gateway;
mod leases;
mod overload;
mod refresh;
mod seed;
mod soak;
mod wrk;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Fill a store to measure with: installations of all ages, whose tokens the sandbox accepts
    Seed(seed::Args),
    /// Refreshes per second, what each costs, and in which order they happen
    Refresh(refresh::Args),
    /// How long a lease takes with all lock nodes well, and with one that hangs
    Leases(leases::Args),
    /// What a request costs the gateway, next to other proxies
    Gateway(gateway::Args),
    /// How long it takes until all gateways have a token that was just committed
    CacheInvalidation(cache_invalidation::Args),
    /// What a gateway still serves when it is asked for three times what it can; `ulimit -n 8192`
    Overload(overload::Args),
    /// Full load and refreshes for long, and whether memory grows
    Soak(soak::Args),
}

pub(crate) async fn act(what: Bench) -> Result<(), Box<dyn std::error::Error>> {
    match what {
        Bench::Seed(args) => seed::run(&args).await,
        Bench::Refresh(args) => refresh::run(&args).await,
        Bench::Leases(args) => leases::run(&args).await,
        Bench::Gateway(args) => gateway::run(&args).await,
        Bench::CacheInvalidation(args) => cache_invalidation::run(&args).await,
        Bench::Overload(args) => overload::run(&args).await,
        Bench::Soak(args) => soak::run(&args).await,
    }
}
