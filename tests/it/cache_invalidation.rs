//! A token that was refreshed is served by every gateway within 30 s, whatever becomes of the
//! announcements.

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

/// Nothing falls due meanwhile.
const LIFETIME: &str = "24h";
/// A gateway's memory of a token, whatever it is told or not told, and a moment to look.
const BOUND: Duration = Duration::from_secs(31);
/// A loss that can be noticed is: within a heartbeat and the time that its answer may take, 3 s, and
/// a moment to look.
const NOTICED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Two gateways, the first of which has a redis_proxy between itself and the store.
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

    /// Refreshes all of these at once; returns the longest time until all gateways served the new one.
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
            let answer = redis::cli(self.testbed.store.port(), None, &kill).await;
            *killed += answer.parse::<usize>().unwrap();
        }
    }
}

/// Waits until announcements arrive at a gateway, or it knows that they do not.
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
    println!("{killed} channels killed, longest {longest:?}");
    assert!(killed > setup.gateways.len(), "{killed}");
    assert!(longest < NOTICED, "{longest:?}");
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
    assert!(longest < BOUND, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_invalidation_channel_is_detected() {
    let setup = TwoGateways::start(30).await;
    let mut parts = setup.ids.chunks(10);
    let mut some = || parts.next().unwrap();
    setup.redis_proxy.drop_replies(Dropped::Subscriptions);
    let at_once = setup.refresh(some()).await;
    until_channel_state(&setup.gateways[0], false).await;
    let meanwhile = setup.refresh(some()).await;
    setup.redis_proxy.drop_replies(Dropped::Nothing);
    until_channel_state(&setup.gateways[0], true).await;
    let afterwards = setup.refresh(some()).await;
    let times = [at_once, meanwhile, afterwards];
    println!("at once, meanwhile, afterwards: {times:?}");
    assert!(setup.redis_proxy.dropped_count() > 0);
    assert!(times.iter().all(|time| *time < NOTICED), "{times:?}");
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
    println!("held, not held before: {times:?}");
    assert!(times.iter().all(|time| *time < BOUND), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_store_fails_no_calls_and_refreshes_propagate_afterwards() {
    let setup = TwoGateways::start(10).await;
    setup.refresh(&setup.ids).await;
    let names: Vec<String> = setup.ids.iter().map(ToString::to_string).collect();
    let client = client::new();
    setup.testbed.store.hang();
    // Past the age at which a token would be read again.
    let calls = setup.gateways.iter().map(|gateway| {
        let (client, names) = (client.clone(), names.clone());
        let public = format!("http://{}", gateway.address);
        async move { steady_load(&client, &public, &names, 20, BOUND + PAUSE).await }
    });
    let results = futures_util::future::join_all(calls).await;
    setup.testbed.store.resume();
    let longest = setup.refresh(&setup.ids).await;
    println!("longest {longest:?}");
    for result in results {
        result.expect_success();
    }
    assert!(longest < NOTICED, "{longest:?}");
}
