//! A burst of calls to one location through gateways that share no state. They coordinate by GHL's rate limit
//! headers only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use tests::client::{get, send};
use tests::fleet::{Fleet, FleetConfig};
use tokio::task::JoinSet;
use tokio::time::Instant;

const CALLS: u32 = 1_000;
/// Calls per second.
const LIMIT: u32 = 100;

/// Calls one installation at a low rate until `stop` is set. Returns the median latency.
async fn usual_latency(client: Client, url: String, stop: Arc<AtomicBool>) -> Duration {
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    while !stop.load(Ordering::Relaxed) || latencies.len() < 25 {
        ticks.tick().await;
        let started = Instant::now();
        let (status, body) = get(&client, &url).await;
        latencies.push(started.elapsed());
        assert_eq!(status, 200, "{body}");
    }
    latencies.sort();
    latencies[latencies.len() / 2]
}

/// Sends all calls concurrently. Returns the time until the last response.
async fn burst(client: &Client, url: &str) -> Duration {
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let request = client.get(url).header("x-request-timeout", "15s");
        calls.spawn(async move { send(request).await });
    }
    while let Some(response) = calls.join_next().await {
        let (status, body) = response.unwrap();
        assert_eq!(status, 200, "after {:?}: {body}", started.elapsed());
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_is_queued_without_delaying_other_locations() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[("RATE_LIMIT", "100"), ("RATE_INTERVAL", "1s")],
        settings: &[],
    })
    .await;
    let installations = fleet.install(2).await;
    fleet.warm_caches(&installations).await;
    let url = |n: usize| {
        let (public, id) = (&fleet.haproxy.url, &installations[n]);
        format!("{public}/api/ghl/products?installation_id={id}&limit=5&offset=0")
    };
    let stop = Arc::new(AtomicBool::new(true));
    let before = usual_latency(fleet.client.clone(), url(1), stop.clone()).await;

    // Ten full rate windows. The last one takes no time.
    let allowed = Duration::from_secs(u64::from(CALLS / LIMIT));
    let shortest = allowed - Duration::from_secs(1);
    let longest = allowed.mul_f64(1.0 / 0.9);
    let mut tries = Vec::new();
    // Retry on a busy machine.
    while tries.len() < 3 && tries.last().is_none_or(|took| *took > longest) {
        let refused = fleet.sandbox.rate_limited_calls().await;
        stop.store(false, Ordering::Relaxed);
        let beside = tokio::spawn(usual_latency(tests::client::new(), url(1), stop.clone()));
        let took = burst(&fleet.client, &url(0)).await;
        stop.store(true, Ordering::Relaxed);
        let during = beside.await.unwrap();
        let refused = fleet.sandbox.rate_limited_calls().await - refused;
        eprintln!(
            "{CALLS} calls in {took:?}, {refused} rejected by GHL; \
             another location's in {before:?} before and {during:?} meanwhile"
        );
        assert!(took >= shortest, "{took:?}: faster than GHL allows");
        assert!(
            during <= before * 3 + Duration::from_millis(25),
            "{during:?} beside the burst, {before:?} before"
        );
        assert!(refused <= u64::from(CALLS / 5), "{refused} calls wasted");
        tries.push(took);
    }
    assert!(tries.iter().any(|took| *took <= longest), "{tries:?}");
}
