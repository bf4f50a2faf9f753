//! The rules and routes of `deploy/` with a real Prometheus and a real Alertmanager: each fault pages with the alert that
//! names it, and nothing else pages.

use std::future::pending;
use std::time::Duration;

use serde_json::{Value, json};
use tests::alertmanager::{Alertmanager, Severity, Status};
use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::program::{Start, write_admin_key};
use tests::prometheus::Prometheus;
use tests::small_disk::SmallDisk;
use tests::wait::{holds, until};
use tokio::time::{Instant, interval, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
/// Each fault pages within 2 minutes. Here each second is scraped and evaluated. In production it is every 15 s, so 30 s
/// are theirs.
const PAGED: Duration = Duration::from_secs(90);
/// The customers of the tests.
const INSTALLATIONS: usize = 4;

const FIRING_PAGE: (Severity, Status) = (Severity::Page, Status::Firing);

/// How long a fault lasts after its page, so that other pages have time to follow: with `EVERGREEN_LONG=1` longer than the
/// `for` of every page about processes.
fn aftermath() -> Duration {
    tests::length(Duration::from_secs(20)).min(Duration::from_secs(100))
}

/// A fleet under observation.
struct Watched {
    fleet: Fleet,
    alertmanager: Alertmanager,
    _prometheus: Prometheus,
    ids: Vec<String>,
}

impl Watched {
    async fn start() -> Self {
        Self::start_with_broker(|| Start::evergreen(&["broker"])).await
    }

    async fn start_with_broker(broker: impl Fn() -> Start) -> Self {
        let config = FleetConfig {
            brokers: 2,
            lock_nodes: 3,
            sandbox: &[],
            settings: &[],
        };
        Self::watch(Fleet::start_with_broker(&config, broker).await).await
    }

    /// Waits until Prometheus knows all processes, and that nothing is wrong.
    async fn watch(fleet: Fleet) -> Self {
        let alertmanager = Alertmanager::start().await;
        let brokers = fleet.brokers.iter().map(|broker| ("broker", broker));
        let gateways = fleet.gateways.iter().map(|gateway| ("gateway", gateway));
        let jobs: Vec<(&str, &str)> = brokers
            .chain(gateways)
            .map(|(job, member)| (job, member.internal.trim_start_matches("http://")))
            .collect();
        let prometheus = Prometheus::start_alerting(&jobs, &alertmanager).await;
        let ids = fleet.install(INSTALLATIONS).await;
        fleet.warm_caches(&ids).await;
        until("a well fleet", PATIENCE, || async {
            let up = prometheus.query("sum(up)").await?;
            let counted = prometheus.query("evergreen:installations:count").await?;
            let alerts = prometheus.query("ALERTS").await?;
            let is_well = up.iter().any(|(_, count)| *count == 5.0)
                && !counted.is_empty()
                && alerts.is_empty();
            holds(is_well, (up, counted, alerts))
        })
        .await;
        Self {
            fleet,
            alertmanager,
            _prometheus: prometheus,
            ids,
        }
    }

    /// Has tokens refreshed as in a fleet in which one is always due. Each broker may refuse.
    async fn refresh_for(&self, length: Duration) {
        let began = Instant::now();
        let mut ticks = interval(Duration::from_secs(1));
        for number in 0.. {
            if began.elapsed() > length {
                return;
            }
            ticks.tick().await;
            let broker = &self.fleet.brokers[number % self.fleet.brokers.len()].internal;
            let id = &self.ids[number % self.ids.len()];
            let refresh = format!("{broker}/v1/installations/{id}/refresh");
            // It answers with the fault of the test.
            let _ = self.fleet.client.post(refresh).send().await;
        }
    }

    /// Expects this page, and no other one, while calls and refreshes go on.
    async fn expect_only_page(&self, name: &str) {
        let (client, public) = (&self.fleet.client, &self.fleet.haproxy.url);
        let longest = PAGED + aftermath();
        let calls = async {
            tokio::join!(
                steady_load(client, public, &self.ids, 5, longest),
                self.refresh_for(longest)
            )
        };
        let pages = async {
            let paged = self.alertmanager.until_notified(name, FIRING_PAGE, PAGED);
            paged.await;
            let _ = timeout(aftermath(), pending::<()>()).await;
        };
        tokio::select! {
            _ = calls => {}
            () = pages => {}
        }
        let pages = self.alertmanager.notified(Severity::Page, Status::Firing);
        let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
        assert_eq!(pages, [name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_fail_pages_until_the_customer_has_reconnected() {
    let watched = Watched::start().await;
    let (fleet, alertmanager) = (&watched.fleet, &watched.alertmanager);
    fleet
        .sandbox
        .faults(json!([{
            "on": "token", "grant": "refresh_token", "locationId": "loc000", "kind": "invalid_grant", "share": 1.0
        }]))
        .await;
    let id = &watched.ids[0];
    let broker = &fleet.brokers[0].internal;
    let url = format!("{broker}/v1/installations/{id}");
    until("the third refusal", PATIENCE, || async {
        send(fleet.client.post(format!("{url}/refresh"))).await;
        let (_, shown) = get(&fleet.client, &url).await;
        holds(shown["tokenStatus"] == "invalid", shown)
    })
    .await;
    let name = "EvergreenRefreshFail";
    alertmanager.until_notified(name, FIRING_PAGE, PAGED).await;
    // It is still counted, so the alert goes on.
    let resolved = alertmanager.notified(Severity::Page, Status::Resolved);
    assert!(resolved.is_empty(), "{resolved:?}");

    fleet.sandbox.faults(json!([])).await;
    let again = client::install(&fleet.client, &fleet.haproxy.url, "loc000").await;
    assert_eq!(&again, id);
    let resolved = (Severity::Page, Status::Resolved);
    // Alertmanager notifies changes of a group once a minute.
    let patience = Duration::from_secs(150);
    alertmanager.until_notified(name, resolved, patience).await;
    let pages = alertmanager.notified(Severity::Page, Status::Firing);
    assert_eq!(pages.into_iter().collect::<Vec<_>>(), [name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_ring_pages_with_its_name() {
    let watched = Watched::start().await;
    let (store, operator) = (&watched.fleet.redis.store, watched.fleet.redis.operator());
    let list = "ghl:seal:refresh";
    let key = store.cli(&operator, &["hkeys", list]).await;
    // The store says that this key of the running brokers is another one.
    let wrong = ["hset", list, &key, "00 needed"];
    store.cli(&operator, &wrong).await;
    watched.expect_only_page("EvergreenSealingKeysWrong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_lock_quorum_pages_with_its_name() {
    let mut watched = Watched::start().await;
    for lock in &mut watched.fleet.redis.locks[..2] {
        lock.kill().await;
    }
    watched.expect_only_page("EvergreenLockQuorumLost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_ghl_pages_with_its_name() {
    let watched = Watched::start().await;
    let down = |on: &str| json!({ "on": on, "kind": "status", "status": 503, "share": 1.0 });
    let faults: Vec<Value> = ["token", "api"].map(down).to_vec();
    watched.fleet.sandbox.faults(Value::Array(faults)).await;
    watched
        .expect_only_page("EvergreenTokenEndpointOutage")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_app_secret_pages_with_its_name() {
    let watched = Watched::start().await;
    watched
        .fleet
        .sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    watched
        .expect_only_page("EvergreenClientCredentialsRejected")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_a_broker_pages_with_its_name() {
    let disk = SmallDisk::start(16).await;
    let config = FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[],
        settings: &[],
    };
    let broker = || disk.run(Start::evergreen(&["broker"]));
    let mut fleet = Fleet::start_with_broker(&config, broker).await;
    // One broker with its data on the small disk.
    let broker = &mut fleet.brokers[0];
    broker.kill().await;
    broker.set([("EVERGREEN_DATA_DIR", disk.join("data"))]);
    write_admin_key(&disk.outside("data")).unwrap();
    broker.launch().await;
    let watched = Watched::watch(fleet).await;
    let reserve = disk.outside("data").join("journal.redb.reserve");
    // The process may create it again before the disk is full.
    while {
        let _ = std::fs::remove_file(&reserve);
        disk.fill();
        reserve.exists()
    } {}
    watched.expect_only_page("EvergreenFileNotReady").await;
}
