//! An agency with many locations: the time to list them, the memory of those that sleep, and the first call to each of
//! some, in turn.

use std::time::Duration;

use clap::Args as Flags;
use serde_json::json;
use tests::client::{self, get};
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::program::Program;
use tests::wait::{holds, until};
use tokio::time::Instant;

const AGENCY: &str = "benchAgency000000001";
const PATIENCE: Duration = Duration::from_secs(1200);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// The locations of the agency
    #[arg(long, default_value_t = 10_000)]
    locations: u64,
    /// The locations that are called, each once
    #[arg(long, default_value_t = 1_000)]
    calls: u64,
    /// How long GHL takes for each answer
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    latency: Duration,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let latency = humantime::format_duration(args.latency).to_string();
    let fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        // GHL's limits, so that the ledger shows whether they are kept.
        sandbox: &[("LATENCY", &latency), ("RATE_LIMIT", "100")],
        settings: &[],
    })
    .await;
    let agency = json!({ "companyId": AGENCY, "locations": args.locations });
    let url = format!("{}/_sandbox/agencies", fleet.sandbox.url);
    let (status, answer) = client::send(fleet.client.post(url).json(&agency)).await;
    if status != 200 {
        return Err(format!("the sandbox made no agency: {answer}").into());
    }
    let before = used_memory(&fleet).await?;
    let started = Instant::now();
    let id = client::install_agency(&fleet.client, &fleet.haproxy.url, AGENCY).await;
    let shown = format!("{}/v1/installations/{id}", fleet.brokers[0].internal);
    until("the list of locations", PATIENCE, || async {
        let (_, seen) = get(&fleet.client, &shown).await;
        let list = &seen["locations"];
        holds(
            list["listedAt"].is_string() && list["count"] == args.locations,
            seen,
        )
    })
    .await;
    let listed = started.elapsed();
    let asleep = used_memory(&fleet).await?.saturating_sub(before) / args.locations.max(1);

    let before = Cpu::used(&fleet);
    let mut times = Vec::new();
    let mut failed = 0;
    for number in 1..=args.calls.min(args.locations) {
        let location = format!("{AGENCY}Loc{number:05}");
        let url = format!(
            "{}/ghl/contacts/?locationId={location}&limit=1",
            fleet.haproxy.url
        );
        let asked = Instant::now();
        let (status, _) = get(&fleet.client, &url).await;
        times.push(asked.elapsed());
        failed += u64::from(status != 200);
    }
    let used = Cpu::used(&fleet).since(before);
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    let counts = fleet.sandbox.ledger().await["companies"][AGENCY].clone();
    let count = |name: &str| counts[name].as_u64().unwrap_or_default();
    println!(
        "an agency with {} locations, 3 brokers, 3 gateways, GHL answers after {latency}",
        args.locations
    );
    println!(
        "listed in {:.1} s; {asleep} bytes of Redis for each location that sleeps",
        listed.as_secs_f64()
    );
    println!(
        "first call to each of {} locations in turn: p50 {} ms, p99 {} ms, longest {} ms, failed {failed}",
        times.len(),
        at(50).as_millis(),
        at(99).as_millis(),
        times.last().copied().unwrap_or_default().as_millis(),
    );
    let each = |part: Duration| part.as_micros() / times.len().max(1) as u128;
    println!(
        "CPU for each first call, µs: brokers {}, gateways {}, store {}, lock nodes {}",
        each(used.brokers),
        each(used.gateways),
        each(used.store),
        each(used.locks),
    );
    println!(
        "mints: {} for {} locations, at most {} for one; calls over the agency's limit: {}",
        count("location_tokens_minted"),
        count("locations_minted"),
        count("most_minted_of_a_location"),
        count("rate_limited_calls"),
    );
    Ok(())
}

/// CPU time that the processes have used so far.
#[derive(Clone, Copy)]
struct Cpu {
    brokers: Duration,
    gateways: Duration,
    store: Duration,
    locks: Duration,
}

impl Cpu {
    fn used(fleet: &Fleet) -> Self {
        let of = |members: &[Member]| {
            let programs = members.iter().filter_map(|member| member.program.as_ref());
            programs.map(Program::cpu).sum()
        };
        let locks = fleet.redis.locks.iter();
        Self {
            brokers: of(&fleet.brokers),
            gateways: of(&fleet.gateways),
            store: fleet.redis.store.program().cpu(),
            locks: locks.map(|lock| lock.program().cpu()).sum(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            brokers: self.brokers.saturating_sub(before.brokers),
            gateways: self.gateways.saturating_sub(before.gateways),
            store: self.store.saturating_sub(before.store),
            locks: self.locks.saturating_sub(before.locks),
        }
    }
}

/// The memory of the store, in bytes.
async fn used_memory(fleet: &Fleet) -> Result<u64, Box<dyn std::error::Error>> {
    let login = fleet.redis.operator();
    let info = fleet.redis.store.cli(&login, &["INFO", "memory"]).await;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.ok_or("no used_memory")?.trim().parse()?)
}
