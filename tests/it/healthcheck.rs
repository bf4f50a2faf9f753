//! `evergreen healthcheck` says whether the process beside it is ready.

use std::time::Duration;

use tests::certificates::Authority;
use tests::port;
use tests::program::Start;
use tests::testbed::Testbed;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

/// The exit code, and what it printed.
async fn healthcheck(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let start = Start::evergreen(&["healthcheck"]);
    let settings = settings.iter();
    let start = settings.fold(start, |start, (key, value)| start.env(key, value));
    let output = start.run().await;
    let printed = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn process_is_healthy_while_it_runs() {
    let up = Up::start(&[]).await;
    let address = up.internal.trim_start_matches("http://");
    let (_, internal_port) = address.rsplit_once(':').unwrap();
    // In a container it listens on all addresses.
    let everywhere = format!("0.0.0.0:{internal_port}");
    for address in [address, &everywhere] {
        until("it to be ready", PATIENCE, || async {
            let seen = healthcheck(&[("EVERGREEN_INTERNAL_LISTEN", address)]).await;
            holds(seen.0 == Some(0), seen)
        })
        .await;
    }
    let nobody = format!("127.0.0.1:{}", port::free());
    let (code, printed) = healthcheck(&[("EVERGREEN_INTERNAL_LISTEN", &nobody)]).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("does not answer"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn process_without_its_store_is_unhealthy_and_says_why() {
    let mut bed = Testbed::start(0, "24h").await;
    let broker = bed.broker("only", &[]).await;
    let internal = broker.internal.trim_start_matches("http://");
    let settings = [("EVERGREEN_INTERNAL_LISTEN", internal)];
    assert_eq!(healthcheck(&settings).await.0, Some(0));
    bed.store.kill().await;
    until("it to be unready", PATIENCE, || async {
        let (code, printed) = healthcheck(&settings).await;
        let says_why = printed.contains("not ready (503") && printed.contains("store: ");
        holds(code == Some(1) && says_why, (code, printed))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_with_tls_is_asked_over_tls() {
    let authority = Authority::new("Healthy CA");
    let issued = authority.issue("127.0.0.1", 1);
    let internal = format!("127.0.0.1:{}", port::free());
    let settings = [
        ("EVERGREEN_TLS_CERT", issued.certificate.as_str()),
        ("EVERGREEN_TLS_KEY", issued.key.as_str()),
        ("EVERGREEN_INTERNAL_LISTEN", internal.as_str()),
    ];
    let scratch = tests::scratch::Scratch::new();
    let at = |port| format!("127.0.0.1:{port}");
    let start = Start::evergreen(&["up"])
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
        .env("EVERGREEN_LISTEN", at(port::free()))
        .env("EVERGREEN_SANDBOX_LISTEN", at(port::free()));
    let settings_of_up = settings.iter();
    let up = settings_of_up.fold(start, |start, (key, value)| start.env(key, value));
    let _up = up.spawn();
    until("it to be ready", PATIENCE, || async {
        let seen = healthcheck(&settings).await;
        holds(seen.0 == Some(0), seen)
    })
    .await;
}
