//! After a refresh, every gateway serves the new token within 30 s, even if invalidation messages are lost.

use std::time::Duration;

use store::InstallationId;
use tests::client;
use tests::fleet::Member;
use tests::load::steady_load;
use tests::propagation::PropagationProbe;
use tests::redis;
use tests::redis_fault_proxy::{Dropped, RedisFaultProxy};
use tests::testbed::Testbed;
use tests::wait::{holds, until};
use tokio::time::interval;

/// Long enough that no refresh falls due during a test.
const LIFETIME: &str = "24h";
/// A gateway caches a token for at most 30 s without an invalidation. One second is for the probe.
const CACHE_LIMIT: Duration = Duration::from_secs(31);
/// A detectable loss is detected within 3 s: one heartbeat, and the timeout of its reply. The rest is for the probe.
const DETECTION_LIMIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// Two gateways. The first one reaches the store through a proxy that can drop replies.
struct TwoGateways {
    testbed: Testbed,
    redis_proxy: RedisFaultProxy,
    broker: Member,
    gateways: Vec<Member>,
    ids: Vec<InstallationId>,
}

impl TwoGateways {
    async fn start(installations: usize) -> Self {
        let testbed = Testbed::start(0, LIFETIME).await;
        testbed.seed(installations as u64, "0s").await;
        let redis_proxy = RedisFaultProxy::to(testbed.store.port()).await;
        let broker = testbed.broker("broker", &[]).await;
        let mut gateways = Vec::new();
        for store in [redis_proxy.url.clone(), testbed.store.url()] {
            let start = testbed.gateway().env("EVERGREEN_REDIS_URL", store);
            let broker = format!("http://{}", broker.address);
            gateways.push(Member::start(start.env("EVERGREEN_BROKER_URL", broker)).await);
        }
        let ids = testbed.installations(installations).await;
        let setup = Self {
            testbed,
            redis_proxy,
            broker,
            gateways,
            ids,
        };
        for gateway in &setup.gateways {
            until_channel_state(gateway, true).await;
        }
        setup
    }

    /// Refreshes all of these concurrently. Returns the longest time until all gateways served the new token.
    async fn refresh(&self, ids: &[InstallationId]) -> Duration {
        let probe = PropagationProbe {
            client: client::new(),
            writer: self.testbed.writer(),
            broker: &self.broker,
            gateways: &self.gateways,
            pause: PAUSE,
        };
        let refreshes = ids.iter().map(|id| probe.refresh(id));
        let times = futures_util::future::join_all(refreshes).await;
        let longest = times.into_iter().max();
        longest.expect("installations")
    }

    async fn kill_subscriptions_forever(&self, killed: &mut usize) {
        let mut ticks = interval(Duration::from_millis(70));
        loop {
            ticks.tick().await;
            let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
            let response = redis::cli(self.testbed.store.port(), None, &kill).await;
            *killed += response.parse::<usize>().unwrap();
        }
    }
}

/// Waits until a gateway's invalidation channel is connected, or until the gateway knows that it is not.
async fn until_channel_state(gateway: &Member, is_connected: bool) {
    let client = client::new();
    let url = format!("{}/metrics", gateway.internal);
    let wanted = format!(
        "evergreen_gateway_cache_coherent {}",
        u8::from(is_connected)
    );
    until(&wanted, PATIENCE, || async {
        let (_, metrics) = client::get(&client, &url).await;
        let mut lines = metrics.as_str().unwrap_or_default().lines();
        let seen = lines.find(|line| line.starts_with("evergreen_gateway_cache_coherent "));
        holds(seen == Some(&wanted), seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_reach_gateways_while_pubsub_connections_are_killed() {
    let setup = TwoGateways::start(100).await;
    let (mut killed, mut longest) = (0, Duration::ZERO);
    let refreshes = async {
        for id in &setup.ids {
            let time = setup.refresh(std::slice::from_ref(id)).await;
            longest = longest.max(time);
        }
    };
    tokio::select! {
        () = refreshes => {}
        () = setup.kill_subscriptions_forever(&mut killed) => {}
    }
    println!("{killed} connections killed, longest {longest:?}");
    assert!(killed > setup.gateways.len(), "{killed}");
    assert!(longest < DETECTION_LIMIT, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_invalidations_are_covered_by_cache_expiry() {
    let setup = TwoGateways::start(10).await;
    setup.redis_proxy.drop_replies(Dropped::Invalidations);
    let longest = setup.refresh(&setup.ids).await;
    println!(
        "{} lost, longest {longest:?}",
        setup.redis_proxy.dropped_count()
    );
    assert!(setup.redis_proxy.dropped_count() > 0);
    assert!(longest < CACHE_LIMIT, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_invalidation_channel_is_detected() {
    let setup = TwoGateways::start(30).await;
    let mut parts = setup.ids.chunks(10);
    let mut some = || parts.next().unwrap();
    setup.redis_proxy.drop_replies(Dropped::Subscriptions);
    let before_detection = setup.refresh(some()).await;
    until_channel_state(&setup.gateways[0], false).await;
    let during_outage = setup.refresh(some()).await;
    setup.redis_proxy.drop_replies(Dropped::Nothing);
    until_channel_state(&setup.gateways[0], true).await;
    let after_recovery = setup.refresh(some()).await;
    let times = [before_detection, during_outage, after_recovery];
    println!("before, during and after detection: {times:?}");
    assert!(setup.redis_proxy.dropped_count() > 0);
    assert!(
        times.iter().all(|time| *time < DETECTION_LIMIT),
        "{times:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_replaced() {
    let setup = TwoGateways::start(20).await;
    let (before, after) = setup.ids.split_at(10);
    setup.refresh(before).await;
    setup.redis_proxy.drop_replies(Dropped::Everything);
    until_channel_state(&setup.gateways[0], false).await;
    setup.redis_proxy.drop_replies(Dropped::Nothing);
    let times = [setup.refresh(before).await, setup.refresh(after).await];
    println!("cached, not cached before: {times:?}");
    assert!(times.iter().all(|time| *time < CACHE_LIMIT), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_store_fails_no_calls_and_refreshes_propagate_afterwards() {
    let setup = TwoGateways::start(10).await;
    setup.refresh(&setup.ids).await;
    let names: Vec<String> = setup.ids.iter().map(ToString::to_string).collect();
    let client = client::new();
    setup.testbed.store.hang();
    // Longer than the age at which a cached token is read again.
    let calls = setup.gateways.iter().map(|gateway| {
        let (client, names) = (client.clone(), names.clone());
        let public = format!("http://{}", gateway.address);
        async move { steady_load(&client, &public, &names, 20, CACHE_LIMIT + PAUSE).await }
    });
    let results = futures_util::future::join_all(calls).await;
    setup.testbed.store.resume();
    let longest = setup.refresh(&setup.ids).await;
    println!("longest {longest:?}");
    for result in results {
        result.expect_success();
    }
    assert!(longest < DETECTION_LIMIT, "{longest:?}");
}
