//! Brokers on a Redis whose configuration could lose tokens.

use std::time::Duration;

use secrecy::ExposeSecret;
use store::KeyRing;
use tests::client::{self, get};
use tests::port;
use tests::program::{Start, wait_for_port};
use tests::redis::{Redis, cli};
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(40);
const EVICTING: [&str; 4] = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];

/// A broker's start configuration and its addresses.
struct Broker {
    start: Start,
    public: String,
    internal: String,
    _scratch: Scratch,
}

impl Broker {
    fn over(store: &str, sandbox: &str) -> Self {
        let scratch = Scratch::new();
        let (public, internal) = (port::free(), port::free());
        let at = |port| format!("127.0.0.1:{port}");
        let ring = || KeyRing::generate_text("it").expose_secret().to_owned();
        let start = Start::evergreen(&["broker"])
            .env("EVERGREEN_REDIS_URL", store)
            .env("EVERGREEN_ACCESS_KEYS", ring())
            .env("EVERGREEN_REFRESH_KEYS", ring())
            .env("EVERGREEN_DATA_DIR", scratch.join("broker"))
            .env("EVERGREEN_LISTEN", at(public))
            .env("EVERGREEN_INTERNAL_LISTEN", at(internal))
            .env("GHL_API_URL", sandbox)
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{sandbox}/v2/oauth/chooselocation"),
            )
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret");
        Self {
            start,
            public: format!("http://{}", at(public)),
            internal: format!("http://{}", at(internal)),
            _scratch: scratch,
        }
    }

    /// Waits until `/readyz` has this status and contains this text.
    async fn until_ready(&self, code: u16, word: &str) {
        let port = self.internal.rsplit(':').next().unwrap();
        wait_for_port(port.parse().unwrap()).await;
        let (client, url) = (client::new(), format!("{}/readyz", self.internal));
        until("the expected readiness", PATIENCE, || async {
            let (found, body) = get(&client, &url).await;
            let body = body.to_string();
            holds(found == code && body.contains(word), (found, body))
        })
        .await;
    }

    async fn expect_metric(&self, series: &str) {
        let metrics = get(&client::new(), &format!("{}/metrics", self.internal))
            .await
            .1;
        let metrics = metrics.as_str().unwrap();
        assert!(metrics.lines().any(|line| line == series), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_refuses_to_start_on_a_store_with_eviction_or_no_persistence() {
    let mut redis = Redis::start_with(&EVICTING).await;
    let broker = Broker::over(&redis.url(), "http://127.0.0.1:1");
    let refused = async |line: &str| {
        let output = broker.start.run().await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{message}");
        assert!(message.contains(line), "{message}");
    };
    refused("set `maxmemory-policy noeviction` in redis.conf").await;
    redis.restart_with(&["--appendonly", "no"]).await;
    refused("set `appendonly yes`").await;

    let warned = broker.start.clone().env("EVERGREEN_STORE_CHECK", "warn");
    let program = warned.spawn();
    broker.until_ready(200, "").await;
    program
        .wait_for_line(&["the store is unsafe", "appendonly yes"], PATIENCE)
        .await;
    broker
        .expect_metric(r#"evergreen_store_unsafe{reason="persistence"} 1"#)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_unreachable_at_start_is_checked_once_reachable() {
    let port = port::free();
    let broker = Broker::over(&format!("redis://127.0.0.1:{port}"), "http://127.0.0.1:1");
    let program = broker.start.spawn();
    broker.until_ready(503, "store_safety").await;
    // An unsafe store that becomes reachable while the broker still starts would end it. So wait until it serves.
    program
        .wait_for_line(&["the broker serves"], PATIENCE)
        .await;
    let redis = Redis::start_at(port, &EVICTING).await;
    broker.until_ready(503, "maxmemory-policy noeviction").await;
    broker
        .expect_metric(r#"evergreen_store_unsafe{reason="eviction"} 1"#)
        .await;
    let safe = ["config", "set", "maxmemory-policy", "noeviction"];
    cli(redis.port(), None, &safe).await;
    broker.until_ready(200, "").await;
    broker
        .expect_metric(r#"evergreen_store_unsafe{reason="eviction"} 0"#)
        .await;
    for words in ["the store is unsafe", "the store is safe again"] {
        let log = program.log();
        let count = log.iter().filter(|line| line.contains(words)).count();
        assert_eq!(count, 1, "{words}: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_is_not_ready_with_the_users_of_an_older_version() {
    let redis = Redis::start().await;
    // All keys but those of the outbox.
    let keys = ["~ghl:[^o]*", "~ghl:outage"];
    let user = ["acl", "setuser", "app", "on", ">pw", "&*", "+@all"];
    cli(redis.port(), None, &[&user[..], &keys].concat()).await;
    let store = format!("redis://app:pw@127.0.0.1:{}", redis.port());
    let broker = Broker::over(&store, "http://127.0.0.1:1");
    let _program = broker.start.spawn();
    broker.until_ready(503, "deploy/users.acl").await;
    broker
        .expect_metric(r#"evergreen_store_unsafe{reason="writes"} 1"#)
        .await;
    let loaded = ["acl", "setuser", "app", "~ghl:out:*"];
    cli(redis.port(), None, &loaded).await;
    broker.until_ready(200, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_code_is_not_exchanged_while_store_refuses_scripts() {
    let redis = Redis::start().await;
    let user = ["acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all"];
    let user = [&user[..], &["-eval", "-evalsha", "-script"]].concat();
    cli(redis.port(), None, &user).await;
    let sandbox = Sandbox::start(&[]).await;
    let store = format!("redis://app:pw@127.0.0.1:{}", redis.port());
    let broker = Broker::over(&store, &sandbox.url);
    let _program = broker.start.spawn();
    broker.until_ready(503, "may not run scripts").await;
    let client = client::new();
    let refused = client::try_install(&client, &broker.public, "locA").await;
    let refused = refused.expect_err("the store takes no installation");
    assert!(refused.contains("could not be stored"), "{refused}");
    let chain = sandbox.chain("locA").await;
    assert!(chain["installations"].is_null(), "{chain}");
    let allowed = ["acl", "setuser", "app", "+eval", "+evalsha", "+script"];
    cli(redis.port(), None, &allowed).await;
    client::install(&client, &broker.public, "locA").await;
    broker.until_ready(200, "").await;
}
