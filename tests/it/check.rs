//! `evergreen check`: before a start, beside a running process, and with each fault that it names.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use store::KeyRing;
use tests::port;
use tests::program::Start;
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::up::Up;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code, and what it printed.
async fn checked(start: Start) -> (Option<i32>, String) {
    let output = start.run_within(PATIENCE).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn has(said: &str, state: &str, name: &str) -> bool {
    let begin = format!("{state:<8} {name}: ");
    said.lines().any(|line| line.starts_with(&begin))
}

fn expect(said: &str, state: &str, name: &str) {
    assert!(has(said, state, name), "{state} {name}: {said}");
}

fn check(args: &[&str]) -> Start {
    let at = |port| format!("127.0.0.1:{port}");
    Start::evergreen(&[&["check"][..], args].concat())
        .env("EVERGREEN_LISTEN", at(port::free()))
        .env("EVERGREEN_INTERNAL_LISTEN", at(port::free()))
        .env("EVERGREEN_SANDBOX_LISTEN", at(port::free()))
}

/// A broker on this store, with a ring of its own.
fn broker(scratch: &Scratch, store: &str, ghl: &str) -> Start {
    let ring = || KeyRing::generate_text("it").expose_secret().to_owned();
    check(&[])
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
        .env("EVERGREEN_REDIS_URL", store)
        .env("EVERGREEN_STORE_CHECK", "warn")
        .env("EVERGREEN_ACCESS_KEYS", ring())
        .env("EVERGREEN_REFRESH_KEYS", ring())
        .env("GHL_CLIENT_ID", "sandbox-client")
        .env("GHL_CLIENT_SECRET", "sandbox-secret")
        .env("GHL_API_URL", ghl)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_passes_before_the_first_start_and_beside_a_running_process() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let (code, said) = checked(check(&[]).env("EVERGREEN_DATA_DIR", &data)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("checked as `evergreen up`\n"), "{said}");
    for name in [
        "settings",
        "GHL",
        "listener",
        "internal listener",
        "redirect URI",
    ] {
        expect(&said, "ok", name);
    }
    assert!(!std::path::Path::new(&data).exists(), "it changes nothing");

    let up = Up::start(&[]).await;
    let beside = || {
        Start::evergreen(&["check"])
            .env("EVERGREEN_DATA_DIR", up.data_dir())
            .env("EVERGREEN_LISTEN", up.public.trim_start_matches("http://"))
            .env(
                "EVERGREEN_INTERNAL_LISTEN",
                up.internal.trim_start_matches("http://"),
            )
    };
    let (code, said) = checked(beside()).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("evergreen serves at").count(), 2, "{said}");
    expect(&said, "ok", "store");
    expect(&said, "ok", "sealing keys");

    let (_, said) = checked(beside().args(&["--output", "json"])).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["command"], "up");
    assert!(
        said["result"] == "ok" || said["result"] == "warning",
        "{said}"
    );
    assert!(
        said["checks"].as_array().is_some_and(|it| it.len() > 5),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_the_only_finding() {
    let start = check(&["--as", "gateway"])
        .env("EVERGREEN_MAX_BODY", "many")
        .env("EVERGREEN_REFERSH_WAIT", "1s");
    let (code, said) = checked(start).await;
    assert_eq!(code, Some(1), "{said}");
    for word in [
        "EVERGREEN_MAX_BODY must be",
        "did you mean EVERGREEN_REFRESH_WAIT?",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("listener"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_and_ghl_that_are_away_are_problems() {
    let scratch = Scratch::new();
    let (store, ghl) = (port::free(), port::free());
    let start = broker(
        &scratch,
        &format!("redis://user:hunter2@127.0.0.1:{store}"),
        &format!("http://127.0.0.1:{ghl}"),
    );
    let (code, said) = checked(start).await;
    assert_eq!(code, Some(1), "{said}");
    for name in ["store", "sealing keys", "GHL"] {
        expect(&said, "problem", name);
    }
    assert!(said.contains(&format!("127.0.0.1:{store}")), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_of_another_deployment_are_a_problem() {
    let (redis, sandbox) = (Redis::start().await, Sandbox::start(&[]).await);
    let scratch = Scratch::new();
    let (code, said) = checked(broker(&scratch, &redis.url(), &sandbox.url)).await;
    assert_ne!(code, None);
    expect(&said, "ok", "sealing keys");
    expect(&said, "ok", "GHL");
    expect(&said, "ok", "clock");
    expect(&said, "ok", "clock of the store");
    expect(&said, "ok", "client credentials");

    // A broker registers its keys.
    let mut first = broker(&scratch, &redis.url(), &sandbox.url);
    first.args = vec!["broker".to_owned()];
    let internal = first.env["EVERGREEN_INTERNAL_LISTEN"].clone();
    let first_keys = first.env["EVERGREEN_ACCESS_KEYS"].clone();
    let running = first.spawn();
    let registered = || async {
        let url = format!("http://{internal}/readyz");
        match reqwest::get(url).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    tests::wait::until("the broker is ready", PATIENCE, registered).await;
    let (code, said) = checked(broker(&scratch, &redis.url(), &sandbox.url)).await;
    assert_eq!(code, Some(1), "{said}");
    expect(&said, "problem", "sealing keys");
    assert!(said.contains("has another key under the id `it`"), "{said}");
    assert!(!said.contains(&first_keys), "{said}");
    drop(running);
}

/// Answers each request with a date.
async fn ghl_with_date(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_that_is_wrong_and_an_address_in_use_are_problems() {
    let ghl = ghl_with_date("Sun, 06 Nov 1994 08:49:37 GMT").await;
    let scratch = Scratch::new();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap();
    let start = check(&[])
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
        .env("EVERGREEN_LISTEN", taken)
        .env("GHL_CLIENT_ID", "sandbox-client")
        .env("GHL_CLIENT_SECRET", "sandbox-secret")
        .env("GHL_API_URL", &ghl);
    let (code, said) = checked(start).await;
    assert_eq!(code, Some(1), "{said}");
    expect(&said, "ok", "GHL");
    expect(&said, "problem", "clock");
    expect(&said, "problem", "listener");
    expect(&said, "ok", "internal listener");
    assert!(said.contains("ahead of"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let sandbox = Sandbox::start(&[]).await;
    let secret = scratch.join("secret");
    std::fs::write(&secret, "sandbox-secret\n").unwrap();
    let start = || {
        check(&[])
            .env("EVERGREEN_DATA_DIR", scratch.join("data"))
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET_FILE", &secret)
            .env("GHL_API_URL", &sandbox.url)
    };
    for (mode, state) in [(0o644, "warning"), (0o600, "ok")] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = checked(start()).await;
        assert_eq!(code, Some(0), "{said}");
        expect(&said, state, "secret files");
    }
}
