//! nginx with `deploy/nginx.conf` in front of real gateways.

use std::time::Duration;

use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::load::{LoadResult, steady_load};
use tests::nginx::Nginx;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

async fn start(settings: &[(&str, &str)]) -> (Fleet, Nginx) {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings,
    })
    .await;
    let nginx = Nginx::start(&fleet.gateways).await;
    (fleet, nginx)
}

/// Waits until this gateway has answered a call.
async fn until_called(gateway: &Member) {
    let client = client::new();
    let url = format!("{}/metrics", gateway.internal);
    until("a call", PATIENCE, || async {
        let (_, metrics) = get(&client, &url).await;
        let metrics = metrics.as_str().unwrap_or_default();
        let mut calls = metrics.lines().filter(|line| {
            let counts_calls = line.starts_with("evergreen_gateway_requests_total{");
            counts_calls && line.contains("\"2xx\"") && !line.contains("\"health\"")
        });
        holds(calls.any(|line| !line.ends_with(" 0")), "none")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_gateways_are_rolled_and_killed_behind_nginx() {
    let (mut fleet, nginx) = start(&[]).await;
    let ids = fleet.install(4).await;
    fleet.warm_caches(&ids).await;
    let (client, url) = (fleet.client.clone(), nginx.url.clone());
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let calls = tokio::spawn(async move {
        let mut all = Vec::new();
        while !*stopped.borrow_and_update() {
            all.push(steady_load(&client, &url, &ids, 40, Duration::from_secs(1)).await);
        }
        all
    });
    for gateway in &mut fleet.gateways {
        let program = gateway.program.take().unwrap();
        let (code, log) = program.terminate(PATIENCE).await;
        assert_eq!(code, Some(0), "{log:?}");
        gateway.launch().await;
        // nginx leaves a gateway out for a second after a failure. An update that replaces the last gateway sooner leaves
        // it with none.
        until_called(gateway).await;
    }
    fleet.gateways[0].kill().await;
    fleet.gateways[0].launch().await;
    stop.send(true).unwrap();
    let seconds = calls.await.unwrap();
    for second in &seconds {
        second.expect_success();
    }
    // A program that is killed and another one that is ended, each in the middle of calls.
    let calls: u64 = seconds.iter().map(LoadResult::total).sum();
    assert!(calls > 20, "{seconds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_calls_on_as_they_are_and_logs_no_secret() {
    let (mut fleet, nginx) = start(&[("EVERGREEN_MAX_BODY", "1MB")]).await;
    let id = fleet.install(1).await.remove(0);
    let (client, public) = (&fleet.client, &nginx.url);
    let upload = format!("{public}/api/ghl/medias/upload-file?installation_id={id}");
    // The limit is the gateway's, and so is the error.
    let large = client.post(&upload).body(vec![7; 2_000_000]);
    let (status, body) = send(large).await;
    assert_eq!((status, &body["code"]), (413, &"body_too_large".into()));
    // A path arrives byte for byte.
    let echo = format!("{public}/ghl/_sandbox/echo/a%2Fb//c?installation_id={id}&q=planted-1");
    let (status, body) = get(client, &echo).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.to_string().contains("/a%2Fb//c"), "{body}");

    for gateway in &mut fleet.gateways {
        gateway.kill().await;
    }
    let paths = [
        ("/connect/planted-2?planted-3", "/connect/-"),
        ("/oauth/result/planted-4", "/oauth/result/-"),
        ("/oauth/callback?code=planted-5", "/oauth/callback"),
    ];
    for (path, logged) in paths {
        let (status, body) = get(client, &format!("{public}{path}")).await;
        assert_eq!((status, &body["statusCode"]), (502, &502.into()), "{body}");
        let line = format!("\"GET {logged} HTTP/1.1\" 502");
        nginx.program.wait_for_line(&[&line], PATIENCE).await;
    }
    let log = nginx.program.log();
    assert!(!log.iter().any(|line| line.contains("planted")), "{log:?}");
}
