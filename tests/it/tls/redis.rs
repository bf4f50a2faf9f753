//! Redis over TLS: one server, Sentinels, a Cluster, and lock nodes.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use store::connection::{Address, RedisTls};
use store::{KeyRing, TokenReader};
use tests::certificates::{Authority, Issued};
use tests::client;
use tests::port;
use tests::program::{Program, Start, wait_for_port};
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::wait::{holds, until};

use super::{PATIENCE, Served};

/// The arguments of a server that speaks TLS alone, and wants certificates of its clients.
fn tls_args(port: u16, authority: &Authority, server: &Issued) -> Vec<String> {
    let port = port.to_string();
    let args = [
        ["--port", "0"],
        ["--tls-port", &port],
        ["--tls-cert-file", &server.certificate],
        ["--tls-key-file", &server.key],
        ["--tls-ca-cert-file", &authority.file()],
        ["--tls-auth-clients", "yes"],
        ["--tls-replication", "yes"],
        ["--tls-cluster", "yes"],
    ];
    args.iter().flatten().map(|it| (*it).to_owned()).collect()
}

async fn server(authority: &Authority, more: &[&str]) -> Redis {
    let port = port::free();
    let mut args = tls_args(port, authority, &authority.issue("redis", 1));
    args.extend(more.iter().map(|it| (*it).to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Redis::start_at(port, &args).await
}

fn tls(authority: &Authority, client: Option<&Issued>) -> RedisTls {
    let read = |path| std::fs::read(path).unwrap();
    let identity = client.map(|it| (read(&it.certificate), read(&it.key).into()));
    RedisTls::new(Some(read(&authority.file())), identity)
}

/// Whether the store at this URL answers.
async fn works(url: &str, tls: &RedisTls) -> Result<(), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = Address::parse_with_tls(&SecretString::from(url), tls);
    let address = address.map_err(|error| error.to_string())?;
    let reader = TokenReader::at(address, Arc::new(KeyRing::generate("a1")));
    let reader = reader.map_err(|error| error.to_string())?;
    reader.ping().await.map_err(|error| format!("{error:?}"))
}

async fn expect_ca_and_certificate_are_needed(url: &str, authority: &Authority) {
    let ours = authority.issue("client", 2);
    until(url, PATIENCE, || async {
        works(url, &tls(authority, Some(&ours))).await
    })
    .await;
    let other = Authority::new("other");
    let foreign = other.issue("foreign", 3);
    for (what, wrong) in [
        ("no certificate", tls(authority, None)),
        ("a foreign certificate", tls(authority, Some(&foreign))),
        ("another CA", tls(&other, Some(&ours))),
        ("the system's CAs", RedisTls::default()),
    ] {
        assert!(works(url, &wrong).await.is_err(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_server_over_tls_needs_ca_and_certificate() {
    let authority = Authority::new("redis");
    let redis = server(&authority, &[]).await;
    let url = format!("rediss://127.0.0.1:{}", redis.port());
    expect_ca_and_certificate_are_needed(&url, &authority).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_their_master_over_tls_need_ca_and_certificate() {
    let authority = Authority::new("redis");
    let master = server(&authority, &[]).await;
    let scratch = Scratch::new();
    let (sentinel, port) = start_sentinel(&authority, master.port(), &scratch).await;
    let url = format!("rediss-sentinel://127.0.0.1:{port}/store");
    expect_ca_and_certificate_are_needed(&url, &authority).await;
    drop(sentinel);
}

async fn start_sentinel(authority: &Authority, master: u16, scratch: &Scratch) -> (Program, u16) {
    let port = port::free();
    let args = tls_args(port, authority, &authority.issue("sentinel", 4));
    let mut lines: Vec<String> = args
        .chunks(2)
        .map(|pair| format!("{} {}", pair[0].trim_start_matches("--"), pair[1]))
        .collect();
    lines.retain(|line| !line.starts_with("tls-cluster"));
    lines.push("bind 127.0.0.1".to_owned());
    lines.push(format!("dir {}", scratch.path().display()));
    lines.push(format!("sentinel monitor store 127.0.0.1 {master} 1"));
    let file = scratch.join("sentinel.conf");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let program = Start::new("redis-server")
        .args(&[&file, "--sentinel"])
        .spawn();
    wait_for_port(port).await;
    (program, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_over_tls_needs_ca_and_certificate() {
    let authority = Authority::new("redis");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = port::free().to_string();
        let more = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        nodes.push(server(&authority, &more).await);
    }
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    let ours = authority.issue("operator", 5);
    let made = Start::new("redis-cli")
        .args(&["--tls", "--cacert", &authority.file()])
        .args(&["--cert", &ours.certificate, "--key", &ours.key])
        .args(&["--cluster", "create"])
        .args(&addresses)
        .args(&["--cluster-yes"])
        .run()
        .await;
    assert!(made.status.success(), "{made:?}");
    let url = format!("rediss-cluster://{}", addresses.join(","));
    expect_ca_and_certificate_are_needed(&url, &authority).await;
}

/// The store and three lock nodes, all with their own CA and client certificates.
#[tokio::test(flavor = "multi_thread")]
async fn broker_and_gateway_work_over_redis_with_tls() {
    let authority = Authority::new("redis");
    let store = server(&authority, &[]).await;
    let mut locks = Vec::new();
    for _ in 0..3 {
        locks.push(server(&authority, &[]).await);
    }
    let url = |redis: &Redis| format!("rediss://127.0.0.1:{}", redis.port());
    let lock_urls: Vec<String> = locks.iter().map(url).collect();
    let ours = authority.issue("ours", 6);
    let keys = |name| KeyRing::generate_text(name).expose_secret().to_owned();
    let (access, refresh) = (keys("a1"), keys("r1"));
    let over_tls = |start: Start| {
        start
            .env("EVERGREEN_REDIS_URL", url(&store))
            .env("EVERGREEN_REDIS_CA_FILE", authority.file())
            .env("EVERGREEN_REDIS_CERT", &ours.certificate)
            .env("EVERGREEN_REDIS_KEY", &ours.key)
    };
    let sandbox = Sandbox::start(&[]).await;
    let start = over_tls(Start::evergreen(&["broker"]))
        .env("EVERGREEN_LOCK_URLS", lock_urls.join(","))
        .env("EVERGREEN_ACCESS_KEYS", &access)
        .env("EVERGREEN_REFRESH_KEYS", refresh);
    let listeners = Authority::new("own");
    let broker = Served::start(sandbox.as_ghl_of(start), &listeners.issue("broker", 1)).await;
    let caller = super::client(&listeners, None);
    broker.wait_until_ready(&caller).await;
    let start = over_tls(Start::evergreen(&["gateway"]))
        .env("EVERGREEN_ACCESS_KEYS", access)
        .env("GHL_API_URL", &sandbox.url)
        .env("EVERGREEN_BROKER_URL", &broker.public)
        .env("EVERGREEN_CA_FILE", listeners.file());
    let gateway = Served::start(start, &listeners.issue("gateway", 2)).await;
    super::broker::expect_service(&listeners, &gateway, &broker, None).await;
    let healthy = "evergreen_lock_nodes{state=\"up\"} 3";
    until("healthy lock nodes", Duration::from_secs(30), || async {
        let url = format!("{}/metrics", broker.internal);
        let (_, metrics) = client::get(&caller, &url).await;
        holds(
            metrics.to_string().contains(&healthy.replace('"', "\\\"")),
            metrics,
        )
    })
    .await;

    let listed = over_tls(Start::evergreen(&["keys", "list"])).run().await;
    assert!(listed.status.success(), "{listed:?}");
}
