//! Configuration: flags, environment, files, and the reports of errors in them.

mod copied;
mod documented;
mod events;
mod printed;
mod secrets;
mod spelling;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::json;
use store::KeyRing;
use tests::client::{self, get};
use tests::port;
use tests::program::{Program, Start, wait_for_port};
use tests::scratch::Scratch;
use tests::up::Up;

const PATIENCE: Duration = Duration::from_secs(90);

/// `up` on these three addresses: public, internal, and the sandbox's.
fn up_on(scratch: &Scratch, addresses: [String; 3]) -> Start {
    let [public, internal, sandbox] = addresses;
    Start::evergreen(&["up"])
        .env("EVERGREEN_LISTEN", public)
        .env("EVERGREEN_INTERNAL_LISTEN", internal)
        .env("EVERGREEN_SANDBOX_LISTEN", sandbox)
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
}

/// Addresses in use. Binding one of them fails with an exit code of its own.
fn occupied_addresses() -> ([TcpListener; 3], [String; 3]) {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = std::array::from_fn(|n: usize| held[n].local_addr().unwrap().to_string());
    (held, addresses)
}

fn free_addresses() -> [String; 3] {
    [(); 3].map(|()| format!("127.0.0.1:{}", port::free()))
}

fn with(start: Start, settings: &[(&str, &str)]) -> Start {
    let settings = settings.iter();
    settings.fold(start, |start, (key, value)| start.env(key, value))
}

/// Runs a program that rejects its configuration. Returns its message.
async fn config_errors(start: Start) -> String {
    let output = start.run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    message
}

/// Expects exactly one line for each of these settings.
fn expect_each(message: &str, keys: &[&str]) {
    let lines: Vec<&str> = message.lines().skip(1).collect();
    for key in keys {
        let count = lines
            .iter()
            .filter(|line| line.split(' ').next() == Some(key));
        assert_eq!(count.count(), 1, "{key} in:\n{message}");
    }
    assert_eq!(lines.len(), keys.len(), "only {keys:?}:\n{message}");
}

fn keys<'a>(settings: &[(&'a str, &str)]) -> Vec<&'a str> {
    settings.iter().map(|(key, _)| *key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_invalid_settings_are_reported_before_anything_is_bound() {
    let scratch = Scratch::new();
    let (_held, addresses) = occupied_addresses();
    let wrong = [
        ("EVERGREEN_ACCESS_KEYS", "nonsense"),
        ("EVERGREEN_BROKER_URL", "ftp://127.0.0.1"),
        ("EVERGREEN_EVENTS_ALLOW_PRIVATE", "maybe"),
        ("EVERGREEN_EVENTS_SECRET", "nonsense"),
        ("EVERGREEN_EVENTS_URL", "nowhere"),
        ("EVERGREEN_EXPIRED_WAIT", "1s"),
        ("EVERGREEN_LOG", "=["),
        ("EVERGREEN_LOG_FORMAT", "xml"),
        ("EVERGREEN_MAX_BODY", "thirty"),
        ("EVERGREEN_RECEIVE_MEMORY", "1KiB"),
        ("EVERGREEN_REDIS_URL", "redis://127.0.0.1"),
        ("EVERGREEN_REFRESH_CONCURRENCY", "0"),
        ("EVERGREEN_REFRESH_LEAD", "soon"),
        ("EVERGREEN_REFRESH_RATE", "many"),
        ("EVERGREEN_REQUIRE_STATE", "perhaps"),
        ("EVERGREEN_SANDBOX_APPS", "nothing"),
        ("EVERGREEN_SANDBOX_RATE_LIMIT", "-1"),
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "20"),
        ("EVERGREEN_SANDBOX_WEBHOOK_URL", "here"),
        ("EVERGREEN_SHUTDOWN_TIMEOUT", "30"),
        ("EVERGREEN_TOKEN_TIMEOUT", "1m"),
        ("GHL_LOCATION_ID", "a b"),
        ("GHL_LOGIN_WINDOW", "sideways"),
        ("GHL_WEBHOOK_ED25519_KEY", "nonsense"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
    ];
    let message = config_errors(with(up_on(&scratch, addresses.clone()), &wrong)).await;
    expect_each(&message, &keys(&wrong));
    // An invalid address does not hide the other errors.
    let worse = [
        ("EVERGREEN_LISTEN", "8080"),
        ("EVERGREEN_SANDBOX_LISTEN", "0.0.0.0:8090"),
    ];
    let start = with(up_on(&scratch, addresses.clone()), &wrong);
    let message = config_errors(with(start, &worse)).await;
    expect_each(&message, &[keys(&wrong), keys(&worse)].concat());
    assert!(!Path::new(&scratch.join("data")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_missing_settings_are_reported_at_once() {
    let (_held, [public, internal, _]) = occupied_addresses();
    let on = |command: &str| {
        Start::evergreen(&[command])
            .env("EVERGREEN_LISTEN", &public)
            .env("EVERGREEN_INTERNAL_LISTEN", &internal)
    };
    let message =
        config_errors(on("broker").env("EVERGREEN_LOCK_URLS", "redis://a,redis://b")).await;
    let needed = [
        "GHL_CLIENT_ID",
        "GHL_CLIENT_SECRET",
        "EVERGREEN_REDIS_URL",
        "EVERGREEN_LOCK_URLS",
        "EVERGREEN_ACCESS_KEYS",
        "EVERGREEN_REFRESH_KEYS",
    ];
    expect_each(&message, &needed);
    let message = config_errors(
        on("gateway")
            .env("EVERGREEN_LISTEN", "nowhere")
            .env("EVERGREEN_RECEIVE_MEMORY", "1KiB"),
    )
    .await;
    let needed = [
        "EVERGREEN_RECEIVE_MEMORY",
        "EVERGREEN_REDIS_URL",
        "EVERGREEN_ACCESS_KEYS",
        "EVERGREEN_LISTEN",
    ];
    expect_each(&message, &needed);
    let sandbox = Start::evergreen(&["sandbox"])
        .env("EVERGREEN_SANDBOX_LISTEN", "0.0.0.0:1")
        .env("EVERGREEN_SANDBOX_LATENCY", "5")
        .env("EVERGREEN_LOG_FORMAT", "xml");
    let needed = [
        "EVERGREEN_SANDBOX_LISTEN",
        "EVERGREEN_SANDBOX_LATENCY",
        "EVERGREEN_LOG_FORMAT",
    ];
    expect_each(&config_errors(sandbox).await, &needed);
    let list = Start::evergreen(&["installations", "list"]).env("EVERGREEN_ADMIN_URL", "here");
    expect_each(&config_errors(list).await, &["EVERGREEN_ADMIN_URL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_and_cluster_stores_need_separate_lock_urls() {
    let broker = |store: &str| Start::evergreen(&["broker"]).env("EVERGREEN_REDIS_URL", store);
    for store in ["redis-sentinel://a,b,c/store", "redis-cluster://a,b,c"] {
        let message = config_errors(broker(store)).await;
        assert!(
            message.contains("EVERGREEN_LOCK_URLS is missing"),
            "{message}"
        );
        let message = config_errors(broker(store).env("EVERGREEN_LOCK_URLS", store)).await;
        assert!(
            message.contains("EVERGREEN_LOCK_URLS is not a Redis"),
            "{message}"
        );
        let message = config_errors(broker(store).env("EVERGREEN_LOCK_URLS", "redis://d")).await;
        assert!(!message.contains("EVERGREEN_LOCK_URLS"), "{message}");
        assert!(!message.contains("EVERGREEN_REDIS_URL"), "{message}");
    }
    let message = config_errors(broker("redis://a")).await;
    assert!(!message.contains("EVERGREEN_LOCK_URLS"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_refuses_refresh_token_keys() {
    let scratch = Scratch::new();
    let (_held, [public, internal, _]) = occupied_addresses();
    let ring = KeyRing::generate_text("it");
    let (ring, file, config) = (
        ring.expose_secret(),
        scratch.join("ring"),
        scratch.join("settings.toml"),
    );
    std::fs::write(&file, ring).unwrap();
    std::fs::write(&config, format!("EVERGREEN_REFRESH_KEYS = \"{ring}\"\n")).unwrap();
    let gateway = || {
        Start::evergreen(&["gateway"])
            .env("EVERGREEN_REDIS_URL", "redis://127.0.0.1:1")
            .env("EVERGREEN_ACCESS_KEYS", ring)
            .env("EVERGREEN_LISTEN", &public)
            .env("EVERGREEN_INTERNAL_LISTEN", &internal)
    };
    for start in [
        gateway().env("EVERGREEN_REFRESH_KEYS", ring),
        gateway().env("EVERGREEN_REFRESH_KEYS_FILE", &file),
        gateway().args(&["--config", &config]),
    ] {
        let message = config_errors(start).await;
        expect_each(&message, &["EVERGREEN_REFRESH_KEYS"]);
        assert!(
            message.contains("must not be given to a gateway"),
            "{message}"
        );
        assert!(!message.contains(ring));
    }
    // Without that key the configuration is valid: the program fails only at binding its addresses.
    assert_eq!(gateway().run().await.status.code(), Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_require_a_unit() {
    const DURATIONS: [&str; 14] = [
        "EVERGREEN_CONNECT_TIMEOUT",
        "EVERGREEN_EXPIRED_WAIT",
        "EVERGREEN_IDLE_TIMEOUT",
        "EVERGREEN_REFRESH_LEAD",
        "EVERGREEN_REFRESH_WAIT",
        "EVERGREEN_RESPONSE_TIMEOUT",
        "EVERGREEN_SANDBOX_LATENCY",
        "EVERGREEN_SANDBOX_RATE_INTERVAL",
        "EVERGREEN_SANDBOX_REPLAY_GRACE",
        "EVERGREEN_SANDBOX_TOKEN_LIFETIME",
        "EVERGREEN_SANDBOX_WEBHOOK_RETRY_PAUSE",
        "EVERGREEN_SHUTDOWN_TIMEOUT",
        "EVERGREEN_TOKEN_TIMEOUT",
        "EVERGREEN_TOTAL_TIMEOUT",
    ];
    let scratch = Scratch::new();
    let (_held, addresses) = occupied_addresses();
    for value in ["10", "10 parsecs"] {
        let start = up_on(&scratch, addresses.clone());
        let start = with(start, &DURATIONS.map(|key| (key, value)));
        let message = config_errors(start).await;
        expect_each(&message, &DURATIONS);
        for line in message.lines().skip(1) {
            assert!(line.contains("a duration"), "{line}");
        }
    }
    // With a unit all of them are valid: the program fails only at binding its addresses.
    let start = with(
        up_on(&scratch, addresses),
        &DURATIONS.map(|key| (key, "10s")),
    );
    assert_eq!(start.run().await.status.code(), Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn address_in_use_is_named_in_the_error() {
    let scratch = Scratch::new();
    let (_held, occupied_addresses) = occupied_addresses();
    for (n, address) in occupied_addresses.iter().enumerate() {
        let mut addresses = free_addresses();
        addresses[n].clone_from(address);
        let output = up_on(&scratch, addresses).run().await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{message}");
        assert!(message.contains(address), "{message}");
        assert!(!Path::new(&scratch.join("data")).exists());
    }
    let [_, internal, sandbox] = free_addresses();
    let elsewhere = "192.0.2.1:8080".to_owned();
    let output = up_on(&scratch, [elsewhere.clone(), internal, sandbox]);
    let output = output.run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{message}");
    assert!(message.contains(&elsewhere), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_is_locked_by_one_process() {
    let up = Up::start(&[]).await;
    let [public, internal, sandbox] = free_addresses();
    let second = Start::evergreen(&["up", "--listen", &public, "--internal-listen", &internal])
        .args(&["--data-dir", &up.data_dir()])
        .env("EVERGREEN_SANDBOX_LISTEN", sandbox);
    let output = second.run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{message}");
    assert!(message.contains(&up.data_dir()), "{message}");
}

/// The settings of the sandbox in a running `up`.
async fn sandbox_settings(up: &Program, sandbox: &str) -> serde_json::Value {
    up.wait_for_line(&["evergreen is up"], PATIENCE).await;
    let url = format!("http://{sandbox}/_sandbox/settings");
    get(&client::new(), &url).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_override_environment_and_environment_overrides_file() {
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    let [in_file, internal, sandbox] = free_addresses();
    let [in_environment, in_flag, _] = free_addresses();
    let text = format!(
        "# A comment\n\
         EVERGREEN_LISTEN = \"{in_file}\"\n\
         EVERGREEN_INTERNAL_LISTEN = \"{internal}\"\n\
         EVERGREEN_SANDBOX_LISTEN = \"{sandbox}\"\n\
         EVERGREEN_DATA_DIR = \"{}\"\n\
         EVERGREEN_SANDBOX_TOKEN_LIFETIME = \"1h17m\"\n\
         EVERGREEN_SANDBOX_RATE_LIMIT = 7\n\
         EVERGREEN_SANDBOX_DAILY_LIMIT = 70\n\
         EVERGREEN_SANDBOX_REPLAY_SAME_ACCESS_TOKEN = true\n",
        scratch.join("data")
    );
    std::fs::write(&config, text).unwrap();
    let up = Start::evergreen(&["--config", &config, "up", "--listen", &in_flag])
        .env("EVERGREEN_LISTEN", &in_environment)
        .env("EVERGREEN_SANDBOX_RATE_LIMIT", 8)
        .env("EVERGREEN_SANDBOX_DAILY_LIMIT", "")
        .spawn();
    let seen = sandbox_settings(&up, &sandbox).await;
    assert_eq!(seen["token_lifetime_ms"], 77 * 60 * 1000);
    assert_eq!(seen["rate_limit"], 8);
    assert_eq!(seen["daily_limit"], 70, "empty counts as unset");
    assert_eq!(seen["replay_same_access_token"], true);
    assert!(Path::new(&scratch.join("data/store.redb")).exists());
    let health = format!("http://{in_flag}/health");
    assert_eq!(get(&client::new(), &health).await.0, 200);
    for unused in [&in_file, &in_environment] {
        let connected = tokio::net::TcpStream::connect(unused).await;
        assert!(connected.is_err(), "{unused} is not used");
    }
    drop(up);

    let [in_file, _, sandbox] = free_addresses();
    let text = format!("EVERGREEN_LISTEN = \"{in_file}\"\nEVERGREEN_SANDBOX_RATE_LIMIT = 9\n");
    std::fs::write(&config, text).unwrap();
    let up = Start::evergreen(&["up"])
        .env("EVERGREEN_CONFIG", &config)
        .env("EVERGREEN_INTERNAL_LISTEN", &free_addresses()[0])
        .env("EVERGREEN_SANDBOX_LISTEN", &sandbox)
        .env("EVERGREEN_DATA_DIR", scratch.join("other"))
        .spawn();
    assert_eq!(sandbox_settings(&up, &sandbox).await["rate_limit"], 9);
    let port = in_file.rsplit(':').next().unwrap().parse().unwrap();
    wait_for_port(port).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_config_file_is_reported_with_the_error_location() {
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    let (_held, addresses) = occupied_addresses();
    let start = || up_on(&scratch, addresses.clone()).args(&["--config", &config]);
    let message = config_errors(start()).await;
    assert!(message.contains(&config), "there is none: {message}");
    for (text, expected) in [
        (
            "EVERGREEN_LOG = \"info\"\nEVERGREEN_MAX_BODY = \n",
            "line 2",
        ),
        ("[gateway]\nEVERGREEN_LOG = \"info\"\n", "gateway"),
        ("listen = \"127.0.0.1:1\"\n", "listen"),
        (
            "EVERGREEN_LOCK_URLS = [\"redis://a\"]\n",
            "EVERGREEN_LOCK_URLS",
        ),
        (
            "EVERGREEN_SHUTDOWN_TIMEOUT = 30\n",
            "EVERGREEN_SHUTDOWN_TIMEOUT",
        ),
    ] {
        std::fs::write(&config, text).unwrap();
        let message = config_errors(start()).await;
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_settings_reach_the_authorization_url() {
    let redirect = "https://app.example/oauth/callback?tenant=1";
    let up = Up::start(&[
        ("GHL_SCOPES", "products.readonly oauth.write"),
        ("GHL_LOGIN_WINDOW", "self"),
    ])
    .await
    .with("GHL_CLIENT_ID", "app-1")
    .with("GHL_CLIENT_SECRET", "x")
    .with("GHL_AUTHORIZE_URL", "https://white.label.example/consent")
    .with("GHL_REDIRECT_URI", redirect);
    let mut up = up;
    up.restart().await;
    let url = format!("{}/oauth/install?moved", up.public);
    let response = up.client.get(url).send().await.unwrap();
    let link = response.headers()["location"].to_str().unwrap();
    let link = reqwest::Url::parse(link).unwrap();
    assert_eq!(link.host_str(), Some("white.label.example"));
    assert_eq!(link.path(), "/consent");
    let mut query: std::collections::BTreeMap<_, _> = link.query_pairs().into_owned().collect();
    assert!(query.remove("state").is_some_and(|state| state.len() >= 32));
    let expected = json!({
        "client_id": "app-1",
        "loginWindowOpenMode": "self",
        "redirect_uri": redirect,
        "response_type": "code",
        "scope": "products.readonly oauth.write",
    });
    assert_eq!(json!(query), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_succeeds_after_kill_during_first_start() {
    for round in 0..15 {
        let scratch = Scratch::new();
        let directory = PathBuf::from(scratch.join("data"));
        let start = up_on(&scratch, free_addresses());
        let killed = start.spawn();
        // The keys, the store and the journal are created one after the other.
        let files = round % 5;
        let count = || std::fs::read_dir(&directory).map_or(0, Iterator::count);
        let come = async {
            while count() < files {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, come).await.unwrap();
        killed.kill().await;
        let next = start.spawn();
        next.wait_for_line(&["evergreen is up"], PATIENCE).await;
    }
}
