//! Gateways that reach brokers over TLS.

use secrecy::ExposeSecret;
use store::KeyRing;
use tests::certificates::{Authority, Issued};
use tests::client::{self, get};
use tests::program::Start;
use tests::redis::Redis;
use tests::sandbox::Sandbox;

use super::{PATIENCE, Served, client};

/// A store and GHL, for a broker and gateways.
pub(super) struct Site {
    redis: Redis,
    pub(super) sandbox: Sandbox,
    access_keys: String,
    refresh_keys: String,
}

impl Site {
    pub(super) async fn start() -> Self {
        let keys = |name| KeyRing::generate_text(name).expose_secret().to_owned();
        Self {
            redis: Redis::start().await,
            sandbox: Sandbox::start(&[]).await,
            access_keys: keys("a1"),
            refresh_keys: keys("r1"),
        }
    }

    pub(super) fn broker(&self) -> Start {
        let start = Start::evergreen(&["broker"])
            .env("EVERGREEN_REDIS_URL", self.redis.url())
            .env("EVERGREEN_STORE_CHECK", "warn")
            .env("EVERGREEN_ACCESS_KEYS", &self.access_keys)
            .env("EVERGREEN_REFRESH_KEYS", &self.refresh_keys);
        self.sandbox.as_ghl_of(start)
    }

    pub(super) fn gateway(&self, broker: &Served) -> Start {
        Start::evergreen(&["gateway"])
            .env("EVERGREEN_REDIS_URL", self.redis.url())
            .env("EVERGREEN_ACCESS_KEYS", &self.access_keys)
            .env("GHL_API_URL", &self.sandbox.url)
            .env("EVERGREEN_BROKER_URL", &broker.public)
    }
}

/// Expects that a consent and a call pass through this gateway, and a refresh is asked for by the command line.
pub(super) async fn expect_service(
    authority: &Authority,
    gateway: &Served,
    broker: &Served,
    identity: Option<&Issued>,
) {
    let caller = client(authority, identity);
    gateway.wait_until_ready(&caller).await;
    let id = client::install(&caller, &gateway.public, "loc1").await;
    let call = format!("{}/api/ghl/products?installation_id={id}", gateway.public);
    let (status, answer) = get(&caller, &call).await;
    assert_eq!(status, 200, "{answer}");
    let mut command = Start::evergreen(&["installations", "refresh", &id])
        .env("EVERGREEN_ADMIN_URL", &broker.internal)
        .env("EVERGREEN_ADMIN_KEY", client::KEY)
        .env("EVERGREEN_CA_FILE", authority.file());
    if let Some(issued) = identity {
        command = command
            .env("EVERGREEN_CLIENT_CERT", &issued.certificate)
            .env("EVERGREEN_CLIENT_KEY", &issued.key);
    }
    let output = command.run().await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_reaches_a_broker_whose_ca_is_in_ca_file() {
    let site = Site::start().await;
    let authority = Authority::new("own");
    let broker = Served::start(site.broker(), &authority.issue("broker", 1)).await;
    broker.wait_until_ready(&client(&authority, None)).await;
    let start = site
        .gateway(&broker)
        .env("EVERGREEN_CA_FILE", authority.file());
    let gateway = Served::start(start, &authority.issue("gateway", 2)).await;
    let words = ["TLS works", "The broker"];
    gateway.program.wait_for_line(&words, PATIENCE).await;
    expect_service(&authority, &gateway, &broker, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_of_another_ca_is_refused_and_the_log_says_why() {
    let site = Site::start().await;
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let broker = Served::start(site.broker(), &other.issue("broker", 1)).await;
    broker.wait_until_ready(&client(&other, None)).await;
    let start = site
        .gateway(&broker)
        .env("EVERGREEN_CA_FILE", authority.file());
    let gateway = Served::start(start, &authority.issue("gateway", 2)).await;
    // Before anybody needs the broker.
    let words = [
        "TLS fails",
        "The broker",
        "UnknownIssuer",
        "EVERGREEN_CA_FILE",
    ];
    let line = gateway.program.wait_for_line(&words, PATIENCE).await;
    assert!(line.contains("WARN"), "{line}");
    let caller = client(&authority, None);
    gateway.wait_until_ready(&caller).await;
    let consent = format!("{}/oauth/install", gateway.public);
    let (status, answer) = get(&caller, &consent).await;
    assert!(status >= 502, "{status} {answer}");
    assert_eq!(answer["code"], "broker_unreachable", "{answer}");

    // The command line has the same CAs.
    let command = Start::evergreen(&["installations", "list"])
        .env("EVERGREEN_ADMIN_URL", &broker.internal)
        .env("EVERGREEN_ADMIN_KEY", client::KEY)
        .env("EVERGREEN_CA_FILE", authority.file());
    let output = command.run().await;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{message}");
    assert!(message.contains("UnknownIssuer"), "{message}");
}
