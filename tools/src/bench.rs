//! Benchmarks.

mod agency;
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
    /// Fill a store for measurements: installations of all ages, with tokens that the sandbox accepts
    Seed(seed::Args),
    /// Refreshes per second, the cost of each, and their order
    Refresh(refresh::Args),
    /// The time to take a lease, with all lock nodes healthy and with one that hangs
    Leases(leases::Args),
    /// An agency with many locations: the list, the memory of those that sleep, and first calls
    Agency(agency::Args),
    /// The cost of a request in the gateway, next to other proxies
    Gateway(gateway::Args),
    /// The time until all gateways serve a token that was just committed
    CacheInvalidation(cache_invalidation::Args),
    /// Throughput and latency of a gateway at three times its capacity; needs `ulimit -n 8192`
    Overload(overload::Args),
    /// Full load and refreshes for a long time, to find growth of memory
    Soak(soak::Args),
}

pub(crate) async fn act(what: Bench) -> Result<(), Box<dyn std::error::Error>> {
    match what {
        Bench::Seed(args) => seed::run(&args).await,
        Bench::Refresh(args) => refresh::run(&args).await,
        Bench::Leases(args) => leases::run(&args).await,
        Bench::Agency(args) => agency::run(&args).await,
        Bench::Gateway(args) => gateway::run(&args).await,
        Bench::CacheInvalidation(args) => cache_invalidation::run(&args).await,
        Bench::Overload(args) => overload::run(&args).await,
        Bench::Soak(args) => soak::run(&args).await,
    }
}
