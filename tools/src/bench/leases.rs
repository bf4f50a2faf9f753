//! The time to take a lease, with all lock nodes healthy and with one that hangs, in turn.

use std::fmt;
use std::time::Duration;

use clap::Args as Flags;
use secrecy::SecretString;
use store::InstallationId;
use store_writer::{Leases, LockNodes};
use tests::redis::Redis;
use tests::wait::{holds, until};
use tokio::time::{Instant, MissedTickBehavior, interval};

const NODES: usize = 3;
const TTL: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// Rounds; in each, all nodes are healthy first, and then one hangs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leases in each half of a round
    #[arg(long, default_value_t = 2000)]
    leases: usize,
    /// Leases a second
    #[arg(long, default_value_t = 400)]
    rate: u32,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Redis::start().await);
    }
    let urls: Vec<SecretString> = nodes.iter().map(|node| node.url().into()).collect();
    let watched = LockNodes::start(&urls, "bench", TTL)?;
    let leases = Leases::redlock(watched.clone());
    let (mut healthy, mut hung, mut onset) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let node = round % NODES;
        let is = |state: &'static str| {
            let seen = watched.health()[node].1.as_str();
            async move { holds(seen == state, seen) }
        };
        until("all nodes to be up", PATIENCE, || is("up")).await;
        healthy.push(take(&leases, args.leases, args.rate).await);

        nodes[node].hang();
        let began = Instant::now();
        let first = take(&leases, 1, args.rate).await;
        until("the hung node to be excluded", PATIENCE, || is("away")).await;
        onset.push((began.elapsed(), first.p99));
        hung.push(take(&leases, args.leases, args.rate).await);
        nodes[node].resume();
    }
    println!(
        "leases over {NODES} nodes, {} a second, medians of {} rounds of {}",
        args.rate, args.rounds, args.leases
    );
    let (healthy, hung) = (median(&healthy), median(&hung));
    println!("all up:     {healthy}");
    println!("one hangs:  {hung}");
    println!(
        "p99 with one that hangs: {:.2} times that with all up",
        hung.p99.as_secs_f64() / healthy.p99.as_secs_f64()
    );
    onset.sort_unstable();
    let (noticed, first) = onset[onset.len() / 2];
    println!("until it is excluded: {noticed:.0?}; the first lease meanwhile took {first:.0?}");
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Times {
    p50: Duration,
    p99: Duration,
    longest: Duration,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, longest } = self;
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}")
    }
}

/// Takes and releases this many leases at a constant rate. Slow leases do not delay the following ones.
async fn take(leases: &Leases, count: usize, rate: u32) -> Times {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        ticks.tick().await;
        let leases = leases.clone();
        tasks.spawn(async move {
            let started = Instant::now();
            let lease = leases.take(&InstallationId::random(), TTL).await;
            let took = started.elapsed();
            leases.release(lease.expect("a majority is up")).await;
            took
        });
    }
    let mut times = tasks.join_all().await;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Times {
        p50: at(50),
        p99: at(99),
        longest: at(100),
    }
}

/// The median of each figure.
fn median(rounds: &[Times]) -> Times {
    let of = |figure: fn(&Times) -> Duration| {
        let mut figures: Vec<Duration> = rounds.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    Times {
        p50: of(|round| round.p50),
        p99: of(|round| round.p99),
        longest: of(|round| round.longest),
    }
}
