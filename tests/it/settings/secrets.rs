//! Secrets come from variables or files, and no output contains them.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::json;
use store::KeyRing;
use tests::client::{self, get, install};
use tests::program::Start;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::up::Up;

use super::{config_errors, expect_each, free_addresses, occupied_addresses, up_on, with};

/// Must not appear in any message.
const SECRET: &str = "hunter2";

/// The secrets, and a command that reads each.
const SECRETS: [(&str, &[&str]); 10] = [
    ("GHL_CLIENT_SECRET", &["broker"]),
    ("GHL_ACCESS_TOKEN", &["broker"]),
    ("GHL_SSO_KEY", &["broker"]),
    ("EVERGREEN_REDIS_URL", &["broker"]),
    ("EVERGREEN_LOCK_URLS", &["broker"]),
    ("EVERGREEN_ACCESS_KEYS", &["gateway"]),
    ("EVERGREEN_REFRESH_KEYS", &["broker"]),
    ("EVERGREEN_EVENTS_SECRET", &["broker"]),
    ("EVERGREEN_ADMIN_KEY", &["installations", "list"]),
    ("EVERGREEN_SANDBOX_CLIENT_SECRET", &["sandbox"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn secret_given_twice_or_in_a_bad_file_is_rejected() {
    let scratch = Scratch::new();
    let (_held, [public, internal, sandbox]) = occupied_addresses();
    let file = |name: &str, content: &str| {
        let path = scratch.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (full, empty) = (file("full", SECRET), file("empty", " \n"));
    let missing = scratch.join(SECRET);
    for (key, command) in SECRETS {
        let start = || {
            Start::evergreen(command)
                .env("EVERGREEN_LISTEN", &public)
                .env("EVERGREEN_INTERNAL_LISTEN", &internal)
                .env("EVERGREEN_SANDBOX_LISTEN", &sandbox)
        };
        let key_file = format!("{key}_FILE");
        for (start, expected) in [
            (
                start().env(key, SECRET).env(&key_file, &full),
                "are both set",
            ),
            (start().env(&key_file, &empty), "is empty"),
            (start().env(&key_file, &missing), "cannot be read"),
        ] {
            let message = config_errors(start).await;
            let lines = message.lines().filter(|line| line.starts_with(key));
            let line = lines.collect::<Vec<_>>().join("\n");
            assert!(line.contains(&key_file), "{message}");
            assert!(line.contains(expected), "{message}");
            assert!(!message.contains(SECRET), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_can_be_given_in_files() {
    let scratch = Scratch::new();
    let file = |name: &str, content: &str| {
        let path = scratch.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let sandbox = Sandbox::start(&[("CLIENT_SECRET", SECRET)]).await;
    let ring = || KeyRing::generate_text("it").expose_secret().to_owned();
    let [public, internal, unused] = free_addresses();
    let up = up_on(&scratch, [public.clone(), internal, unused])
        .env("GHL_CLIENT_ID", "sandbox-client")
        .env(
            "GHL_CLIENT_SECRET_FILE",
            file("client", &format!("  {SECRET}\n")),
        )
        .env("EVERGREEN_ACCESS_KEYS_FILE", file("access", &ring()))
        .env("EVERGREEN_REFRESH_KEYS_FILE", file("refresh", &ring()))
        .env("GHL_API_URL", &sandbox.url)
        .env(
            "GHL_AUTHORIZE_URL",
            format!("{}/oauth/chooselocation", sandbox.url),
        )
        .spawn();
    up.wait_for_line(&["evergreen is up"], Duration::from_secs(30))
        .await;
    let id = install(&client::new(), &format!("http://{public}"), "locA").await;
    let url = format!("http://{public}/ghl/locations/locA?installation_id={id}");
    assert_eq!(get(&client::new(), &url).await.0, 200);
    for made in ["access.keys", "refresh.keys"] {
        let path = format!("{}/{made}", scratch.join("data"));
        assert!(!Path::new(&path).exists(), "no new key ring is created");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_errors_do_not_reveal_secrets() {
    let scratch = Scratch::new();
    let (_held, [public, internal, sandbox]) = occupied_addresses();
    let wrong = [
        ("EVERGREEN_ACCESS_KEYS", "k1:hunter2,k2"),
        ("EVERGREEN_LOCK_URLS", "redis://:hunter2@a:b"),
        ("EVERGREEN_REDIS_URL", "redis://user:hunter2@host:port/"),
        ("EVERGREEN_REFRESH_KEYS", "hunter2"),
        ("GHL_API_URL", "https://user:hunter2@ghl.example"),
        ("GHL_AUTHORIZE_URL", "user:hunter2@ghl.example"),
        ("GHL_REDIRECT_URI", "https://hunter2@app.example"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2@collector:4317"),
    ];
    let broker = Start::evergreen(&["broker"])
        .env("EVERGREEN_LISTEN", &public)
        .env("EVERGREEN_INTERNAL_LISTEN", &internal)
        .env("GHL_CLIENT_ID", "app")
        .env("GHL_CLIENT_SECRET", SECRET);
    let message = config_errors(with(broker, &wrong)).await;
    expect_each(&message, &wrong.map(|(key, _)| key));
    assert!(!message.contains(SECRET), "{message}");

    let config = scratch.join("settings.toml");
    for text in [
        "GHL_CLIENT_SECRET = \"hunter2",
        "GHL_CLIENT_SECRET = hunter2",
        "GHL_CLIENT_SECRET = [\"hunter2\"]",
        "[hunter]\nsecret = \"hunter2\"",
    ] {
        std::fs::write(&config, text).unwrap();
        let addresses = [public.clone(), internal.clone(), sandbox.clone()];
        let start = up_on(&scratch, addresses).args(&["--config", &config]);
        let message = config_errors(start).await;
        assert!(!message.contains(SECRET), "{text}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_logged_at_trace_level() {
    let up = Up::start(&[
        ("EVERGREEN_LOG", "trace"),
        ("EVERGREEN_SANDBOX_CLIENT_SECRET", SECRET),
    ])
    .await;
    let id = up.install("locA").await;
    let call = format!("{}/ghl/locations/locA?installation_id={id}", up.public);
    let token = format!("{}/v1/installations/{id}/token", up.internal);
    let mut secrets = vec![SECRET.to_owned()];
    for ring in ["access.keys", "refresh.keys"] {
        let ring = std::fs::read_to_string(format!("{}/{ring}", up.data_dir())).unwrap();
        let (_, key) = ring.trim().split_once(':').unwrap();
        secrets.push(key.to_owned());
    }
    for _ in 0..2 {
        assert_eq!(get(&up.client, &call).await.0, 200);
        let (_, body) = get(&up.client, &token).await;
        let access_token = body["access_token"].as_str().unwrap();
        // Only the signature is secret.
        let (_, signature) = access_token.rsplit_once('.').unwrap();
        secrets.push(signature.to_owned());
        let refreshed = up.command(&["installations", "refresh", &id]).run().await;
        assert!(refreshed.status.success(), "{refreshed:?}");
    }
    let fault = json!([{ "on": "token", "kind": "invalid_grant", "next": 1 }]);
    up.sandbox.faults(fault).await;
    up.command(&["installations", "refresh", &id]).run().await;
    up.program
        .wait_for_line(
            &["[REFRESH-RETRY]", &id, "suspect"],
            Duration::from_secs(30),
        )
        .await;
    let log = up.program.log();
    assert!(
        log.iter().any(|line| line.contains("TRACE")),
        "the log level is trace"
    );
    // GHL's access and refresh tokens begin like this.
    secrets.push("eyJ".to_owned());
    for secret in secrets {
        let line = log.iter().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}
