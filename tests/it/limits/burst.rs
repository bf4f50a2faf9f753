//! A location's burst, through replicas that share nothing but what GHL answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Client;
use tests::fleet::{Fleet, Shape};

use super::*;

const CALLS: u32 = 1_000;
/// Per second.
const LIMIT: u32 = 100;

/// Calls one installation again and again, gently, until it is told to stop; returns the median.
async fn usual_latency(client: Client, url: String, stop: Arc<AtomicBool>) -> Duration {
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    while !stop.load(Ordering::Relaxed) || latencies.len() < 25 {
        ticks.tick().await;
        let asked = Instant::now();
        let (status, body) = get(&client, &url).await;
        latencies.push(asked.elapsed());
        assert_eq!(status, 200, "{body}");
    }
    latencies.sort();
    latencies[latencies.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_through_three_gateways_waits_and_nobody_else_does() {
    let _alone = tests::alone().await;
    let fleet = Fleet::start(&Shape {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[("RATE_LIMIT", "100"), ("RATE_INTERVAL", "1s")],
        settings: &[],
    })
    .await;
    let installations = fleet.install(2).await;
    fleet.warm(&installations).await;
    let url = |n: usize| {
        let (public, id) = (&fleet.haproxy.url, &installations[n]);
        format!("{public}/api/ghl/products?installation_id={id}&limit=5&offset=0")
    };
    let stop = Arc::new(AtomicBool::new(true));
    let before = usual_latency(fleet.client.clone(), url(1), stop.clone()).await;
    let so_far = fleet.sandbox.ledger().await;

    stop.store(false, Ordering::Relaxed);
    let beside = tokio::spawn(usual_latency(tests::client::new(), url(1), stop.clone()));
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let request = fleet.client.get(url(0)).header("x-request-timeout", "15s");
        calls.spawn(async move { send(request).await });
    }
    while let Some(answer) = calls.join_next().await {
        let (status, body) = answer.unwrap();
        assert_eq!(status, 200, "after {:?}: {body}", started.elapsed());
    }
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    let during = beside.await.unwrap();

    // Of ten windows that are used up one after the other, the last takes no time. A window is
    // found to have begun by a call there and back, which on a busy machine is a while.
    let allowed = Duration::from_secs(u64::from(CALLS / LIMIT));
    let longest = allowed.mul_f64(1.0 / 0.9) + 10 * during;
    let shortest = allowed - Duration::from_secs(1);
    assert!(
        took >= shortest && took <= longest,
        "{took:?} of {longest:?}"
    );
    assert!(
        during <= before * 3 + Duration::from_millis(25),
        "{during:?} beside the burst, {before:?} before"
    );
    let ledger = fleet.sandbox.ledger().await;
    let count = |ledger: &Value| ledger["api_calls"]["rate_limited"].as_u64().unwrap();
    let refused = count(&ledger) - count(&so_far);
    eprintln!("{CALLS} calls in {took:?}, {refused} refused by GHL; beside {before:?} {during:?}");
    assert!(refused <= u64::from(CALLS / 5), "{refused} calls wasted");
}
