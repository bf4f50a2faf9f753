//! `evergreen-tools bench soak`: a gateway and a broker at full load for a long time, while all tokens are refreshed
//! repeatedly.

use std::time::Duration;

use clap::Args as Flags;
use tests::client;
use tests::fleet::Member;
use tests::scratch::Scratch;
use tests::testbed::Testbed;
use tests::wait::{holds, until};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::gateway::sample::megabytes;
use super::wrk::{Callers, Load};

/// A token is refreshed when a quarter of its lifetime is left, so after 20 s.
const LIFETIME: &str = "27s";
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// The length of the run, in whole seconds
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    length: Duration,
    #[arg(long, value_name = "N", default_value_t = 300)]
    installations: usize,
    /// The interval between samples of the processes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    every: Duration,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let scratch = Scratch::new();
    let testbed = Testbed::start(0, LIFETIME).await;
    eprintln!("{}", testbed.seed(args.installations as u64, "0s").await);
    let callers = Callers::of(&testbed, &scratch, args.installations).await;
    let broker = testbed.broker("broker", &[]).await;
    let gateway = testbed.gateway();
    let gateway = gateway.env("EVERGREEN_BROKER_URL", format!("http://{}", broker.address));
    let soak = Soak {
        gateway: Member::start(gateway).await,
        broker,
        testbed,
    };
    soak.all_refreshed(args.installations).await;
    let load = Load {
        callers: &callers,
        url: format!("http://{}/ghl/_sandbox/echo", soak.gateway.address),
        body_bytes: 0,
        connections: CONNECTIONS,
        pause: Duration::ZERO,
        under: &[],
        length: args.length,
    };
    let (seen, samples) = tokio::join!(load.run(), soak.sample(args.length, args.every));
    println!(
        "served {:.0}/s, p50 {:.0} µs, p99 {:.0} µs; failed: {:.0} responses, and {:.0} without one",
        seen.served_per_second(),
        seen.p50_us,
        seen.p99_us,
        seen.refused,
        seen.broken
    );
    println!("growth of resident memory from the first third to the last:");
    println!("  gateway {}", growth(&samples, |sample| sample.gateway_mb));
    println!("  broker {}", growth(&samples, |sample| sample.broker_mb));
    Ok(())
}

struct Soak {
    testbed: Testbed,
    gateway: Member,
    broker: Member,
}

/// The processes and the ledger at one moment.
struct Sample {
    gateway_mb: f64,
    broker_mb: f64,
    refreshes: u64,
    /// Calls with an expired token.
    expired: u64,
    /// Unsuccessful responses of the gateway.
    failed: u64,
}

impl Soak {
    /// The seeded tokens expired before a broker could refresh them.
    async fn all_refreshed(&self, installations: usize) {
        until("a refresh of each", PATIENCE, || async {
            let spent = self.testbed.sandbox.count("refresh_tokens_spent").await;
            holds(spent >= installations as u64, spent)
        })
        .await;
    }

    async fn sample(&self, length: Duration, every: Duration) -> Vec<Sample> {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut samples) = (Instant::now(), Vec::new());
        while began.elapsed() < length {
            ticks.tick().await;
            let sample = self.now().await;
            println!("{:>4} s: {sample}", began.elapsed().as_secs());
            samples.push(sample);
        }
        samples
    }

    async fn now(&self) -> Sample {
        let resident = |member: &Member| {
            let program = member.program.as_ref().expect("it runs");
            megabytes(program.resident_kb())
        };
        let ledger = self.testbed.sandbox.ledger().await;
        let count = |name: &str| ledger[name].as_u64().expect(name);
        Sample {
            gateway_mb: resident(&self.gateway),
            broker_mb: resident(&self.broker),
            refreshes: count("refresh_tokens_spent"),
            expired: count("calls_with_expired_token"),
            failed: failed(&self.gateway).await,
        }
    }
}

/// Unsuccessful responses, according to the gateway's metrics.
async fn failed(gateway: &Member) -> u64 {
    let url = format!("{}/metrics", gateway.internal);
    let (_, metrics) = client::get(&client::new(), &url).await;
    let metrics = metrics.as_str().expect("text");
    let series = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix(r#"evergreen_gateway_requests_total{route="ghl","#)?;
        let (class, count) = line.split_once(' ')?;
        (!class.starts_with(r#"status_class="2xx""#)).then(|| count.parse::<u64>().ok())?
    });
    series.sum()
}

fn growth(samples: &[Sample], of: fn(&Sample) -> f64) -> String {
    let third = samples.len().div_ceil(3);
    let mean = |samples: &[Sample]| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    let (first, last) = (
        mean(&samples[..third]),
        mean(&samples[samples.len() - third..]),
    );
    format!(
        "{first:.1} MB, {last:.1} MB: {:+.1} %",
        100.0 * (last / first - 1.0)
    )
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            gateway_mb,
            broker_mb,
            refreshes,
            expired,
            failed,
        } = self;
        write!(
            f,
            "gateway {gateway_mb:.1} MB, broker {broker_mb:.1} MB, {refreshes} refreshes, \
             {failed} calls failed, {expired} with an expired token"
        )
    }
}
