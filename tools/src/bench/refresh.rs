//! `evergreen-tools bench refresh`: brokers at work on a large fleet.

mod order;
mod report;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Flags, ValueEnum};
use store::Timestamp;
use store::freshness::Lead;
use store_writer::backend::Schedule;
use tests::fleet::Member;
use tests::testbed::Testbed;
use tests::wait::{holds, until};
use tokio::time::{Instant, sleep};

use order::Order;
use report::Measured;
use usage::{Resident, Snapshot};

/// The lifetime of access tokens.
const LIFETIME: &str = "24h";
/// After the start of the brokers, until connections are open and refreshes have begun.
const WARM_UP: Duration = Duration::from_secs(2);
/// A refresh window reaches its maximum within about 2,000 refreshes.
const GROWTH_PATIENCE: Duration = Duration::from_secs(10);
/// The interval between memory samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
const BACKLOG_PATIENCE: Duration = Duration::from_secs(600);
const WARNINGS_SHOWN: usize = 10;

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// The state of the fleet
    #[arg(long, value_enum, default_value_t = Scenario::CatchUp)]
    scenario: Scenario,
    /// The numbers of installations; one run for each number
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "10000,1000000"
    )]
    installations: Vec<u64>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    brokers: usize,
    /// The number of lock nodes: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    lock_nodes: usize,
    /// The refreshes that each broker may start per second [EVERGREEN_REFRESH_RATE]
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rate: u32,
    /// Concurrent refreshes in each broker [EVERGREEN_REFRESH_CONCURRENCY]
    #[arg(long, value_name = "N", default_value_t = 64)]
    concurrency: usize,
    /// The length of the measurement, unless everything is refreshed earlier
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// A file for the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// After a day without any broker: everything is overdue
    CatchUp,
    /// Installations fall due one after the other
    Steady,
}

impl Scenario {
    fn overdue(self) -> &'static str {
        match self {
            Self::CatchUp => LIFETIME,
            Self::Steady => "0s",
        }
    }
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut runs = Vec::new();
    for installations in &args.installations {
        runs.push(measure(args, *installations).await);
    }
    print!("{}", report::table(&runs));
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", report::json(&runs)))?;
    }
    Ok(())
}

async fn measure(args: &Args, installations: u64) -> Measured {
    let testbed = Testbed::start(args.lock_nodes, LIFETIME).await;
    let mut brokers = start_brokers(&testbed, args).await;
    let mut resident = Resident::idle(&brokers);
    for broker in &mut brokers {
        broker.kill().await;
    }
    let empty = memory(&testbed).await;
    eprintln!("seeding {installations} installations");
    let seeded = testbed.seed(installations, args.scenario.overdue()).await;
    eprintln!("{seeded}");
    let store_bytes = memory(&testbed).await.saturating_sub(empty);
    for broker in &mut brokers {
        broker.launch().await;
    }

    match args.scenario {
        Scenario::Steady => {
            nothing_due(&testbed).await;
            sleep(WARM_UP).await;
        }
        Scenario::CatchUp => windows_grown(&brokers, args.concurrency).await,
    }
    let from = Timestamp::of_this_machine();
    let first = Snapshot::take(&testbed, &brokers).await;
    let mut last = first.clone();
    let started = Instant::now();
    // Leave out the last ones, for which not all workers are busy.
    let all_but_last = installations - installations / 50;
    while started.elapsed() < args.length && last.refreshed() < all_but_last {
        sleep(SAMPLE_INTERVAL).await;
        last = Snapshot::take(&testbed, &brokers).await;
        resident.sample(&brokers);
    }
    let warnings = warnings(&brokers);
    for warning in warnings.iter().take(WARNINGS_SHOWN) {
        eprintln!("{warning}");
    }
    Measured {
        scenario: args.scenario,
        installations,
        lock_nodes: args.lock_nodes,
        cost: last.since(&first),
        resident,
        store_bytes_each: store_bytes / installations.max(1),
        order: Order::of(&testbed.sandbox.chains().await, from),
        falling_due_per_second: falling_due_per_second(installations),
        warnings: warnings.len(),
        spent_outside_grace: testbed.sandbox.count("spent_outside_grace").await,
        seeded,
    }
}

async fn start_brokers(testbed: &Testbed, args: &Args) -> Vec<Member> {
    let settings = [
        ("EVERGREEN_REFRESH_RATE", args.rate.to_string()),
        (
            "EVERGREEN_REFRESH_CONCURRENCY",
            args.concurrency.to_string(),
        ),
    ];
    let mut brokers = Vec::new();
    for number in 0..args.brokers {
        let name = format!("broker-{number}");
        brokers.push(testbed.broker(&name, &settings).await);
    }
    brokers
}

/// Until then the brokers limit the tokens in flight.
async fn windows_grown(brokers: &[Member], concurrency: usize) {
    for broker in brokers {
        until("the window to have grown", GROWTH_PATIENCE, || async {
            let window = usage::window(broker).await;
            holds(window >= concurrency as u64, window)
        })
        .await;
    }
}

/// Excludes the refreshes that fell due while the fleet was seeded.
async fn nothing_due(testbed: &Testbed) {
    let writer = testbed.writer();
    until("the brokers to be up to date", BACKLOG_PATIENCE, || async {
        let upcoming = writer
            .poll_due(Schedule::Due, &store::AppName::default())
            .await
            .expect("the store answers");
        holds(upcoming.due.is_empty(), upcoming.due.len())
    })
    .await;
}

/// For a fleet with tokens of all ages.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 installations"
)]
fn falling_due_per_second(installations: u64) -> f64 {
    let lifetime = humantime::parse_duration(LIFETIME).expect("a duration");
    let born = Timestamp::from_millis(0);
    let of_mean_jitter = u8::MAX / 2;
    let age = Lead::Auto
        .due(born + lifetime, lifetime, of_mean_jitter)
        .since(born);
    installations as f64 / age.as_secs_f64()
}

/// The memory that the store uses, in bytes.
async fn memory(testbed: &Testbed) -> u64 {
    let used = testbed.writer().memory().await.expect("the store answers");
    used.expect("Redis knows what it uses")
}

/// Warnings and errors in the logs of brokers.
fn warnings(brokers: &[Member]) -> Vec<String> {
    let is_warning = |line: &String| {
        ["WARN", "ERROR", "-RETRY]", "-FAIL]"]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines = brokers.iter().flat_map(Member::log);
    lines.filter(is_warning).collect()
}
