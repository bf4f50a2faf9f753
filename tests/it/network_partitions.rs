//! A network partition between the servers of the store, for a minute. Each side has a broker, and both reach GHL
//! and the lock nodes. Redis discards the confirmed writes of the losing side.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;
use tests::client;
use tests::deployed::Deployed;
use tests::fleet::Member;
use tests::program::Start;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::split_store::{Split, SplitCluster, SplitSentinel};
use tests::wait::{holds, until};
use tokio::time::Instant;

const SPLIT: Duration = Duration::from_secs(60);
/// Two minutes after a fault, every installation with a valid grant must have recovered.
const RECOVERY_TIME: Duration = Duration::from_secs(120);
const INSTALLATIONS: usize = 30;

/// A store with a broker on each side of the partition.
struct Sides<T> {
    store: Deployed<T>,
    sandbox: Sandbox,
    old: Member,
    new: Member,
    client: Client,
    ids: Vec<String>,
    _scratch: Scratch,
}

impl<T: Split> Sides<T> {
    async fn start() -> Self {
        let mut store = Deployed::<T>::start_topology(3).await;
        let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "600s")]).await;
        let scratch = Scratch::new();
        let old = start_broker("old", T::OLD_SIDE[0], &mut store, &sandbox, &scratch).await;
        let new = start_broker("new", T::NEXT, &mut store, &sandbox, &scratch).await;
        let client = client::new();
        let (mut ids, public) = (Vec::new(), format!("http://{}", old.address));
        for number in 0..INSTALLATIONS {
            ids.push(client::install(&client, &public, &format!("loc{number:03}")).await);
        }
        Self {
            store,
            sandbox,
            old,
            new,
            client,
            ids,
            _scratch: scratch,
        }
    }

    /// Requests all refreshes concurrently. Returns how many succeed.
    async fn refresh(&self, broker: &Member, ids: &[String]) -> usize {
        let requests = ids.iter().map(|id| refresh(&self.client, broker, id));
        let responses = join_all(requests).await;
        responses
            .iter()
            .filter(|(status, _)| *status == 200)
            .count()
    }

    async fn is_next_master(&self, is_master: bool) {
        let servers = self.store.store.servers();
        until("the other side's master", RECOVERY_TIME, || async {
            let found = servers.is_master(T::NEXT).await;
            holds(found == is_master, servers.run(T::NEXT, &["ROLE"]).await)
        })
        .await;
    }
}

async fn start_broker<T: Split>(
    name: &str,
    host: usize,
    store: &mut Deployed<T>,
    sandbox: &Sandbox,
    scratch: &Scratch,
) -> Member {
    let start = Start::evergreen(&["broker"])
        .env("EVERGREEN_ACCESS_KEYS_FILE", store.file("access-keys"))
        .env("EVERGREEN_REFRESH_KEYS_FILE", store.file("refresh-keys"))
        .env("EVERGREEN_REDIS_URL_FILE", store.file("broker-redis-url"))
        .env("EVERGREEN_LOCK_URLS_FILE", store.file("lock-urls"))
        .env("EVERGREEN_BROKER_NAME", name)
        .env("EVERGREEN_DATA_DIR", scratch.join(name))
        .env("EVERGREEN_TOKEN_TIMEOUT", "2s");
    let start = sandbox.as_ghl_of(start);
    let locks = store.locks.iter().map(|lock| lock.port());
    let ghl = sandbox.url.rsplit(':').next().unwrap().parse().unwrap();
    let served: Vec<u16> = locks.chain([ghl]).collect();
    let hosts = store.store.hosts();
    for port in served {
        hosts.serve(host, port).await;
    }
    let mut member = Member::new(hosts.on(host, start));
    for port in member.ports() {
        hosts.reach(host, port).await;
    }
    member.launch().await;
    member
}

async fn refresh(client: &Client, broker: &Member, id: &str) -> (u16, Value) {
    let url = format!("{}/v1/installations/{id}/refresh", broker.internal);
    client::send(client.post(url)).await
}

/// `survives_election`: whether the old master still accepts writes after the other side has elected one.
async fn split_for_a_minute<T: Split>(survives_election: bool) {
    let mut sides = Sides::<T>::start().await;
    let servers = sides.store.store.hosts();
    servers.split(T::OLD_SIDE).await;
    let since = Instant::now();
    let refreshed = sides.refresh(&sides.old, &sides.ids[..15]).await;
    sides.is_next_master(true).await;
    let late = sides.refresh(&sides.old, &sides.ids[15..20]).await;
    assert_eq!(late, if survives_election { 5 } else { 0 });
    // Redis will discard all of these writes.
    let lost_writes = refreshed + late;
    assert!(lost_writes > 0, "nothing was refreshed on the losing side");
    until("refreshes on the other side", RECOVERY_TIME, || async {
        let refreshed = sides.refresh(&sides.new, &sides.ids[20..]).await;
        holds(refreshed > 0, refreshed)
    })
    .await;
    until("a minute to be over", SPLIT, || async {
        let (status, body) =
            client::get(&sides.client, &format!("{}/metrics", sides.new.internal)).await;
        assert_eq!(status, 200, "{body}");
        holds(since.elapsed() >= SPLIT, "the split")
    })
    .await;
    sides.store.store.hosts().heal().await;

    let servers = sides.store.store.servers();
    until("the former master to follow", RECOVERY_TIME, || async {
        holds(!servers.is_master(0).await, servers.run(0, &["ROLE"]).await)
    })
    .await;
    sides.is_next_master(true).await;
    for id in &sides.ids {
        until("an installation to recover", RECOVERY_TIME, || async {
            let (status, body) = refresh(&sides.client, &sides.new, id).await;
            holds(status == 200, body)
        })
        .await;
    }
    let ledger = sides.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn network_split_with_sentinel_loses_no_installation() {
    split_for_a_minute::<SplitSentinel>(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn network_split_of_cluster_loses_no_installation() {
    split_for_a_minute::<SplitCluster>(false).await;
}
