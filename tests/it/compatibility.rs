//! This version and the previous schema of records side by side over one store, in both orders and under load.

mod older;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::{InstallationId, KeyRing, keys};
use store_writer::Rings;
use tests::client::{self, get, send};
use tests::fleet::Member;
use tests::load::steady_load;
use tests::program::Start;
use tests::redis::{Redis, cli};
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::wait::{holds, until};
use tokio::task::JoinHandle;

use older::{NEW, OlderBroker};

const LIFETIME: &str = "30s";
const LOCATIONS: usize = 8;
/// Some lifetimes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A store that both versions use, and a broker and a gateway of this version.
struct Site {
    redis: Redis,
    sandbox: Sandbox,
    scratch: Scratch,
    rings: Rings,
    broker: Member,
    gateway: Member,
    client: reqwest::Client,
}

impl Site {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", LIFETIME)]).await;
        let scratch = Scratch::new();
        let (access, refresh) = (KeyRing::generate_text("a"), KeyRing::generate_text("r"));
        let ring = |text: &SecretString| Arc::new(KeyRing::parse(text).unwrap());
        let rings = Rings {
            access: ring(&access),
            refresh: ring(&refresh),
        };
        let with = |start: Start| {
            start
                .env("EVERGREEN_REDIS_URL", redis.url())
                .env("EVERGREEN_ACCESS_KEYS", access.expose_secret())
                .env("GHL_API_URL", &sandbox.url)
        };
        let broker = with(Start::evergreen(&["broker"]))
            .env("EVERGREEN_REFRESH_KEYS", refresh.expose_secret())
            .env("EVERGREEN_DATA_DIR", scratch.join("newer"))
            .env("EVERGREEN_BROKER_NAME", "newer")
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", sandbox.url),
            )
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret");
        let broker = Member::start(broker).await;
        let gateway = with(Start::evergreen(&["gateway"]))
            .env("EVERGREEN_BROKER_URL", format!("http://{}", broker.address));
        Self {
            gateway: Member::start(gateway).await,
            broker,
            redis,
            sandbox,
            scratch,
            rings,
            client: client::new(),
        }
    }

    fn older(&self) -> OlderBroker {
        let settings = [
            ("EVERGREEN_BROKER_NAME", "older".to_owned()),
            ("GHL_API_URL", self.sandbox.url.clone()),
            ("GHL_CLIENT_ID", "sandbox-client".to_owned()),
            ("GHL_CLIENT_SECRET", "sandbox-secret".to_owned()),
        ];
        let data = self.scratch.path().join("older");
        OlderBroker::start(&self.redis.url(), &self.rings, &data, &settings)
    }

    async fn install(&self) -> Vec<InstallationId> {
        let url = format!("http://{}", self.broker.address);
        let mut ids = Vec::new();
        for number in 0..LOCATIONS {
            let id = client::install(&self.client, &url, &format!("loc{number}")).await;
            ids.push(id.parse().unwrap());
        }
        ids
    }

    /// The half of a record that brokers read, as far as these fields go.
    async fn fields(&self, id: &InstallationId, names: &[&str]) -> Vec<String> {
        let key = keys::refresh(id);
        let ask = [&["hmget", key.as_str()], names].concat();
        let answer = cli(self.redis.port(), None, &ask).await;
        answer.lines().map(str::to_owned).collect()
    }

    /// Makes records as the previous schema wrote them.
    async fn take_away_new_fields(&self, ids: &[InstallationId]) {
        for id in ids {
            let key = keys::refresh(id);
            let remove = [&["hdel", key.as_str(), "info", "src", "min"], &NEW[..]].concat();
            cli(self.redis.port(), None, &remove).await;
            let key = keys::access(id);
            cli(self.redis.port(), None, &["hdel", &key, "app", "min"]).await;
        }
    }

    /// Calls through the gateway until it is told to stop. Returns how many there were; none failed.
    fn load(&self, ids: &[InstallationId]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = tokio::spawn({
            let (client, stop) = (self.client.clone(), stop.clone());
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let url = format!("http://{}", self.gateway.address);
            async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let part = Duration::from_millis(500);
                    let part = steady_load(&client, &url, &ids, 50, part).await;
                    part.expect_success();
                    calls += part.total();
                }
                calls
            }
        });
        Load { stop, calls }
    }

    /// How many refreshes the broker of this version has logged since it started.
    fn refreshed(&self) -> u64 {
        let log = self.broker.log();
        let lines = log
            .iter()
            .filter(|line| line.contains("[REFRESH] install_"));
        lines.count() as u64
    }

    /// Waits until both brokers have refreshed some more, and reads every token as the previous schema does.
    async fn until_both_refreshed(&self, older: &OlderBroker, ids: &[InstallationId]) {
        let (before, newer_before) = (older.refreshed(), self.refreshed());
        until("refreshes of both versions", PATIENCE, || async {
            for id in ids {
                let left = older.validity(id).await;
                assert!(left > Duration::ZERO, "{id} has expired");
            }
            let seen = (older.refreshed() - before, self.refreshed() - newer_before);
            holds(seen.0 >= 2 && seen.1 >= 2, seen)
        })
        .await;
    }

    async fn expect_no_token_lost(&self) {
        let ledger = self.sandbox.ledger().await;
        for never in [
            "spent_outside_grace",
            "calls_with_expired_token",
            "calls_with_unknown_token",
        ] {
            assert_eq!(ledger[never], 0, "{never}: {ledger}");
        }
    }
}

/// Calls in the background.
struct Load {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<u64>,
}

impl Load {
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.calls.await.unwrap();
        assert!(calls > 200, "{calls}");
    }
}

async fn until_refreshed(older: &OlderBroker, more: u64) {
    let wanted = older.refreshed() + more;
    until("refreshes of the previous schema", PATIENCE, || async {
        let seen = older.refreshed();
        holds(seen >= wanted, seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_broker_joins_a_store_of_the_previous_schema() {
    let mut site = Site::start().await;
    let ids = site.install().await;
    site.broker.kill().await;
    site.take_away_new_fields(&ids).await;

    // The previous version alone.
    let older = site.older();
    let load = site.load(&ids);
    until_refreshed(&older, LOCATIONS as u64).await;
    for id in &ids {
        let fields = site.fields(id, &NEW).await;
        assert!(fields.iter().all(String::is_empty), "{fields:?}");
    }

    // The upgrade, and its end.
    site.broker.launch().await;
    site.until_both_refreshed(&older, &ids).await;
    older.stop().await;
    for id in &ids {
        until("the client id in each record", PATIENCE, || async {
            let fields = site.fields(id, &["cid"]).await;
            holds(fields == ["sandbox-client"], fields)
        })
        .await;
    }
    load.end().await;
    site.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn previous_schema_keeps_what_it_does_not_know_and_can_take_over() {
    let mut site = Site::start().await;
    let ids = site.install().await;
    let name = |id: &InstallationId| format!("{}/v1/installations/{id}", site.broker.internal);
    for (number, id) in ids.iter().enumerate() {
        let body = json!({ "external_id": format!("org/{number}"), "tags": ["vip"] });
        let (status, changed) = send(site.client.patch(name(id)).json(&body)).await;
        assert_eq!(status, 200, "{changed}");
    }
    let shown: Vec<String> = ids.iter().map(name).collect();
    let mut before = Vec::new();
    for id in &ids {
        let fields = site.fields(id, &NEW).await;
        assert_eq!(fields.len(), NEW.len(), "{fields:?}");
        assert!(fields.iter().all(|field| !field.is_empty()), "{fields:?}");
        before.push(fields);
    }

    // Both, then the previous version alone.
    let load = site.load(&ids);
    let older = site.older();
    site.until_both_refreshed(&older, &ids).await;
    site.broker.kill().await;
    until_refreshed(&older, LOCATIONS as u64).await;
    for (id, before) in ids.iter().zip(&before) {
        assert_eq!(&site.fields(id, &NEW).await, before);
    }

    // This version again, beside it.
    site.broker.launch().await;
    site.until_both_refreshed(&older, &ids).await;
    load.end().await;
    older.stop().await;
    for (number, url) in shown.iter().enumerate() {
        let (status, one): (u16, Value) = get(&site.client, url).await;
        assert_eq!(status, 200, "{one}");
        assert_eq!(one["externalId"], format!("org/{number}"), "{one}");
        assert_eq!(one["tags"], json!(["vip"]), "{one}");
        assert_eq!(one["tokenStatus"], "valid", "{one}");
    }
    site.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn previous_schema_refuses_records_that_need_a_newer_reader() {
    let site = Site::start().await;
    let ids = site.install().await;
    let older = site.older();
    // As a record of a second app: the previous version would take it for one of the default app.
    for key in [keys::access(&ids[0]), keys::refresh(&ids[0])] {
        cli(site.redis.port(), None, &["hset", &key, "min", "3"]).await;
    }
    let writer = older.writer();
    let refused = writer.load(&ids[0]).await.unwrap_err().to_string();
    assert!(refused.contains(ids[0].as_str()), "{refused}");
    assert!(writer.load(&ids[1]).await.unwrap().is_some());
    // This version reads both.
    for id in &ids[..2] {
        let url = format!("{}/v1/installations/{id}/token", site.gateway.internal);
        let (status, token) = get(&site.client, &url).await;
        assert_eq!(status, 200, "{token}");
    }
    older.stop().await;
}
