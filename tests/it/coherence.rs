//! A token that was refreshed is served by every gateway within 30 s, whatever becomes of the
//! announcements.

use std::time::Duration;

use store::InstallationId;
use tests::bed::Bed;
use tests::client;
use tests::coherence::Watch;
use tests::fleet::Member;
use tests::load::steady;
use tests::redis;
use tests::relay::{Lost, Relay};
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

/// Two gateways, the first of which has a relay between itself and the store.
struct Scene {
    bed: Bed,
    relay: Relay,
    broker: Member,
    gateways: Vec<Member>,
    ids: Vec<InstallationId>,
}

impl Scene {
    async fn start(installations: usize) -> Self {
        let bed = Bed::start(0, LIFETIME).await;
        bed.seed(installations as u64, "0s").await;
        let relay = Relay::to(bed.store.port()).await;
        let broker = bed.broker("broker", &[]).await;
        let mut gateways = Vec::new();
        for store in [relay.url.clone(), bed.store.url()] {
            let start = bed.gateway().env("EVERGREEN_REDIS_URL", store);
            let broker = format!("http://{}", broker.address);
            gateways.push(Member::start(start.env("EVERGREEN_BROKER_URL", broker)).await);
        }
        let ids = bed.installations(installations).await;
        let scene = Self {
            bed,
            relay,
            broker,
            gateways,
            ids,
        };
        for gateway in &scene.gateways {
            is_told(gateway, true).await;
        }
        scene
    }

    /// Refreshes all of these at once; returns the longest time until all gateways served the new one.
    async fn refresh(&self, ids: &[InstallationId]) -> Duration {
        let watch = Watch {
            client: client::new(),
            writer: self.bed.writer(),
            broker: &self.broker,
            gateways: &self.gateways,
            pause: PAUSE,
        };
        let refreshes = ids.iter().map(|id| watch.refresh(id));
        let times = futures_util::future::join_all(refreshes).await;
        let longest = times.into_iter().max();
        longest.expect("installations")
    }

    async fn kill_channels_for_ever(&self, killed: &mut usize) {
        let mut ticks = interval(Duration::from_millis(70));
        loop {
            ticks.tick().await;
            let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
            let answer = redis::cli(self.bed.store.port(), None, &kill).await;
            *killed += answer.parse::<usize>().unwrap();
        }
    }
}

/// Waits until announcements arrive at a gateway, or it knows that they do not.
async fn is_told(gateway: &Member, is_so: bool) {
    let client = client::new();
    let url = format!("{}/metrics", gateway.internal);
    let wanted = format!("evergreen_gateway_cache_coherent {}", u8::from(is_so));
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
    let scene = Scene::start(100).await;
    let (mut killed, mut longest) = (0, Duration::ZERO);
    let refreshes = async {
        for id in &scene.ids {
            let time = scene.refresh(std::slice::from_ref(id)).await;
            longest = longest.max(time);
        }
    };
    tokio::select! {
        () = refreshes => {}
        () = scene.kill_channels_for_ever(&mut killed) => {}
    }
    println!("{killed} channels killed, longest {longest:?}");
    assert!(killed > scene.gateways.len(), "{killed}");
    assert!(longest < NOTICED, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_invalidations_are_covered_by_cache_expiry() {
    let scene = Scene::start(10).await;
    scene.relay.lose(Lost::Announcements);
    let longest = scene.refresh(&scene.ids).await;
    println!("{} lost, longest {longest:?}", scene.relay.losses());
    assert!(scene.relay.losses() > 0);
    assert!(longest < BOUND, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_invalidation_channel_is_detected() {
    let scene = Scene::start(30).await;
    let mut parts = scene.ids.chunks(10);
    let mut some = || parts.next().unwrap();
    scene.relay.lose(Lost::Channels);
    let at_once = scene.refresh(some()).await;
    is_told(&scene.gateways[0], false).await;
    let meanwhile = scene.refresh(some()).await;
    scene.relay.lose(Lost::Nothing);
    is_told(&scene.gateways[0], true).await;
    let afterwards = scene.refresh(some()).await;
    let times = [at_once, meanwhile, afterwards];
    println!("at once, meanwhile, afterwards: {times:?}");
    assert!(scene.relay.losses() > 0);
    assert!(times.iter().all(|time| *time < NOTICED), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_replaced() {
    let scene = Scene::start(20).await;
    let (before, after) = scene.ids.split_at(10);
    scene.refresh(before).await;
    scene.relay.lose(Lost::Everything);
    is_told(&scene.gateways[0], false).await;
    scene.relay.lose(Lost::Nothing);
    let times = [scene.refresh(before).await, scene.refresh(after).await];
    println!("held, not held before: {times:?}");
    assert!(times.iter().all(|time| *time < BOUND), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_store_fails_no_calls_and_refreshes_propagate_afterwards() {
    let scene = Scene::start(10).await;
    scene.refresh(&scene.ids).await;
    let names: Vec<String> = scene.ids.iter().map(ToString::to_string).collect();
    let client = client::new();
    scene.bed.store.hang();
    // Past the age at which a token would be read again.
    let calls = scene.gateways.iter().map(|gateway| {
        let (client, names) = (client.clone(), names.clone());
        let public = format!("http://{}", gateway.address);
        async move { steady(&client, &public, &names, 20, BOUND + PAUSE).await }
    });
    let accounts = futures_util::future::join_all(calls).await;
    scene.bed.store.wake();
    let longest = scene.refresh(&scene.ids).await;
    println!("longest {longest:?}");
    for account in accounts {
        account.expect_success();
    }
    assert!(longest < NOTICED, "{longest:?}");
}
