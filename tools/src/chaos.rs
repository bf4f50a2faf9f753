//! Random faults of all kinds in a whole deployment, with an audit at the end.
//!
//! The deployment has three brokers, three gateways, jumping clocks, a store with Sentinels, three lock nodes, and a
//! failing GHL. Hundreds of installations with short-lived tokens are called throughout. The seed alone determines
//! the plan of faults.

mod audit;
mod fault_injection;
mod plan;
mod timeline;

use std::time::Duration;

use clap::Args as Flags;
use serde_json::{Value, json};
use tests::client;
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::program::Start;
use tests::sentinel::Sentinel;
use tests::wait::{holds, until};
use tests::wall_clock::WallClock;
use tokio::task::JoinSet;

use audit::Audit;
use plan::Plan;
use timeline::Timeline;

/// Every installation is refreshed about three times a minute.
const LIFETIME: &str = "30s";
/// Windows, leases and takeovers depend on it.
const TOKEN_TIMEOUT: &str = "4s";
const CALLS_A_SECOND: u32 = 20;
/// How long the last refreshes may take after the last fault.
const RECOVERY_TIME: Duration = Duration::from_secs(90);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// The seed of the plan of faults; the same seed gives the same plan [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are injected, in minutes
    #[arg(long, default_value_t = 3)]
    minutes: u64,
    #[arg(long, default_value_t = 200)]
    installations: usize,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from_le_bytes(store::random::bytes()));
    let length = Duration::from_secs(args.minutes * 60);
    println!("chaos --seed {seed} --minutes {}", args.minutes);
    let plan = Plan::of(seed, length);
    let wall_clock = WallClock::wrong_by("+0");
    let mut fleet = start(&wall_clock).await;
    let installations = fleet.install(args.installations).await;
    println!("{} installations; {plan}", installations.len());

    let timeline = Timeline::begin();
    let calls = tokio::spawn({
        let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
        let installations = installations.clone();
        async move { steady_load(&client, &public, &installations, CALLS_A_SECOND, length).await }
    });
    fault_injection::run(&mut fleet, &wall_clock, &plan, &timeline).await;
    let calls = calls.await?;
    println!("calls by status: {:?}", calls.responses);

    wait_for_recovery(&fleet, installations.len()).await;
    let refreshed = refresh_all(&fleet, &installations).await;
    for member in fleet.brokers.iter().chain(&fleet.gateways) {
        timeline.keep_log(&member.address, member.log());
    }
    let audit = Audit::of(&fleet, &installations, &refreshed).await;
    println!("{audit}");
    if audit.violations.is_empty() {
        println!("chaos: seed {seed}: 0 violations");
        return Ok(());
    }
    for violation in &audit.violations {
        println!("{violation}\n{}", timeline.report(&violation.about));
    }
    let count = audit.violations.len();
    Err(format!("chaos: seed {seed}: {count} violations").into())
}

async fn start(wall_clock: &WallClock) -> Fleet<Sentinel> {
    let mut fleet = Fleet::<Sentinel>::start_with_broker(
        &FleetConfig {
            brokers: 3,
            lock_nodes: 3,
            sandbox: &[("TOKEN_LIFETIME", LIFETIME)],
            settings: &[
                ("EVERGREEN_TOKEN_TIMEOUT", TOKEN_TIMEOUT),
                ("EVERGREEN_REDIS_REPLICAS", "1"),
            ],
        },
        || Start::evergreen_with_crash_points(&["broker"]),
    )
    .await;
    for member in [&mut fleet.brokers[2], &mut fleet.gateways[1]] {
        member.set(wall_clock.settings());
        member.kill().await;
        member.launch().await;
    }
    fleet
}

/// Waits until every installation has a valid token and no attempt is in progress.
async fn wait_for_recovery(fleet: &Fleet<Sentinel>, count: usize) {
    fleet.sandbox.faults(json!([])).await;
    let url = format!("{}/v1/installations?limit=1000", fleet.brokers[0].internal);
    let is_final = |one: &Value| one["tokenStatus"] == "valid" || one["tokenStatus"] == "invalid";
    until("all installations to recover", RECOVERY_TIME, || async {
        let (_, listed) = client::get(&fleet.client, &url).await;
        let listed = listed["installations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let unfinished: Vec<&Value> = listed.iter().filter(|one| !is_final(one)).collect();
        holds(listed.len() == count && unfinished.is_empty(), &unfinished)
    })
    .await;
}

/// Refreshes every installation once more, which only the newest refresh token can do. Returns the responses of
/// failed refreshes.
async fn refresh_all(fleet: &Fleet<Sentinel>, installations: &[String]) -> Vec<(String, String)> {
    let mut requests = JoinSet::new();
    let mut failed = Vec::new();
    for id in installations {
        let request = fleet.client.post(format!(
            "{}/v1/installations/{id}/refresh",
            fleet.brokers[0].internal
        ));
        let id = id.clone();
        requests.spawn(async move { (id, client::send(request).await) });
        if requests.len() >= 16
            && let Some(Ok(response)) = requests.join_next().await
        {
            failed.extend(failure(response));
        }
    }
    while let Some(Ok(response)) = requests.join_next().await {
        failed.extend(failure(response));
    }
    failed
}

fn failure((id, (status, body)): (String, (u16, Value))) -> Option<(String, String)> {
    (status != 200).then(|| (id, format!("{status} {body}")))
}
