//! GHL refuses the client id and secret: of everybody, or of one.

use std::time::Duration;

use serde_json::json;
use tests::client::get;
use tests::fleet::{Fleet, Shape};
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::time::Instant;

use super::{PATIENCE, gauge, lines};

const BREAKER: &str = "evergreen_token_endpoint_breaker_open";
const ALARM: &str = "check GHL_CLIENT_ID and GHL_CLIENT_SECRET";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_pauses_everybody_and_gives_nobody_up() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..10 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    up.program.wait_for_line(&[ALARM], PATIENCE).await;
    until("the breaker to show", PATIENCE, || async {
        let open = gauge(&up.client, &up.internal, BREAKER).await;
        holds(open.as_deref() == Some("1"), open)
    })
    .await;
    let refused = up.sandbox.ledger().await["token_calls"]["faulted"]
        .as_u64()
        .unwrap();
    assert!(
        refused <= 20,
        "{refused} calls of an endpoint that knows us no more"
    );
    let listed = get(&up.client, &format!("{}/v1/installations", up.internal))
        .await
        .1;
    let listed = listed["installations"].as_array().unwrap().clone();
    assert!(
        listed.iter().all(|one| one["tokenStatus"] != "invalid"),
        "{listed:#?}"
    );

    up.sandbox.faults(json!([])).await;
    until(
        "everybody to be refreshed",
        Duration::from_secs(60),
        || async {
            let spent = up.sandbox.count("refresh_tokens_spent").await;
            holds(spent >= 10, spent)
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_asked_for_again_while_the_client_pair_is_refused() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..10 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([
            { "on": "token", "kind": "process_then_lose", "next": 3, "grant": "refresh_token" },
            { "on": "token", "kind": "invalid_client", "share": 1.0 },
        ]))
        .await;
    up.program.wait_for_line(&[ALARM], PATIENCE).await;
    let refused = Instant::now();
    up.sandbox.faults(json!([])).await;
    until("the lost answers to be repeated", PATIENCE, || async {
        let repeated = up.sandbox.count("replays_in_grace").await;
        holds(repeated >= 3, repeated)
    })
    .await;
    // Everybody else pauses for longer.
    assert!(refused.elapsed() < Duration::from_secs(15));
    assert_eq!(up.sandbox.count("spent_outside_grace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_refused_alone_stops_nobody_else() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    let healthy = up.install("healthy").await;
    let refused = up.install("refused").await;
    up.sandbox
        .faults(json!([{
            "on": "token", "kind": "invalid_client", "share": 1.0, "locationId": "refused",
        }]))
        .await;
    up.program
        .wait_for_line(&["[REFRESH-FAIL]", &refused], PATIENCE)
        .await;
    let refreshed = || lines(&up.program, &format!("[REFRESH] {healthy}")).len();
    let seen = refreshed();
    until(
        "the other to be refreshed three times more",
        PATIENCE,
        || async { holds(refreshed() >= seen + 3, refreshed()) },
    )
    .await;
    assert_eq!(up.program.line(&[ALARM]), None, "the client pair is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_costs_a_fleet_one_call_per_pause() {
    let _load = tests::under_load().await;
    let fleet = Fleet::start(&Shape {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "20s")],
        settings: &[],
    })
    .await;
    let installations = fleet.install(30).await;
    fleet
        .sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    let said = |word: &str| {
        let log = fleet.broker_logs();
        log.into_iter().filter(|line| line.contains(word)).count()
    };
    let all_show = async |value: &str| {
        for broker in &fleet.brokers {
            until("the breaker to show", PATIENCE, || async {
                let open = gauge(&fleet.client, &broker.internal, BREAKER).await;
                holds(open.as_deref() == Some(value), open)
            })
            .await;
        }
    };
    let refused = async || {
        let ledger = fleet.sandbox.ledger().await;
        ledger["token_calls"]["faulted"].as_u64().unwrap()
    };
    until("the alarm", PATIENCE, || async {
        holds(said(ALARM) == 1, said("[REFRESH-FAIL]"))
    })
    .await;
    all_show("1").await;
    let at_once = refused().await;
    assert!(at_once <= 30, "{at_once} calls before everybody knew");

    // From now on one of them asks, for all.
    let first_probe = until("a probe", PATIENCE, || async {
        let now = refused().await;
        holds(now > at_once, now).map(|()| Instant::now())
    })
    .await;
    assert_eq!(refused().await, at_once + 1);
    let second_probe = until("another probe", PATIENCE, || async {
        let now = refused().await;
        holds(now > at_once + 1, now).map(|()| Instant::now())
    })
    .await;
    assert_eq!(refused().await, at_once + 2, "one call per pause");
    let apart = second_probe - first_probe;
    assert!(apart >= Duration::from_secs(28), "{apart:?}");
    assert_eq!(said(ALARM), 1, "one alarm");

    fleet.sandbox.faults(json!([])).await;
    until("everybody to be refreshed", PATIENCE * 2, || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 30, spent)
    })
    .await;
    all_show("0").await;
    assert_eq!(said("accepts the client id and secret again"), 1);
    assert_eq!(said(ALARM), 1);
    for id in installations {
        let url = format!(
            "{}/api/ghl/products?installation_id={id}",
            fleet.haproxy.url
        );
        let (code, body) = get(&fleet.client, &url).await;
        assert_eq!(code, 200, "nobody is given up: {body}");
    }
}
