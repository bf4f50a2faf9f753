//! Which webhooks are sent, with which fields, and their retries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use reqwest::StatusCode;
use sandbox::{ClientCredentials, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{Sandbox, answer};

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";
const LOCATIONS: [&str; 3] = [HARBOR, "sandboxMapleYoga0002", "sandboxOakEmberCafe3"];

/// An app that refuses the first webhooks and forwards all of them.
struct Receiver {
    sandbox: Sandbox,
    most_in_flight: Arc<AtomicUsize>,
    bodies: mpsc::UnboundedReceiver<Bytes>,
}

#[derive(Clone)]
struct Responses {
    sender: mpsc::UnboundedSender<Bytes>,
    refusals: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    most_in_flight: Arc<AtomicUsize>,
}

async fn respond(State(responses): State<Responses>, body: Bytes) -> StatusCode {
    let in_flight = responses.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    responses
        .most_in_flight
        .fetch_max(in_flight, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1)).await;
    responses.in_flight.fetch_sub(1, Ordering::Relaxed);
    let _ = responses.sender.send(body);
    let left = |left: usize| left.checked_sub(1);
    let refusals = &responses.refusals;
    match refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
        Ok(_) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::OK,
    }
}

impl Receiver {
    async fn start(refusals: usize) -> Self {
        let (sender, bodies) = mpsc::unbounded_channel();
        let most_in_flight = Arc::new(AtomicUsize::new(0));
        let responses = Responses {
            sender,
            refusals: Arc::new(AtomicUsize::new(refusals)),
            in_flight: Arc::default(),
            most_in_flight: most_in_flight.clone(),
        };
        let router = Router::new()
            .route("/hook", post(respond))
            .with_state(responses);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let sandbox = Sandbox::with(Config {
            webhook_url: Some(url.parse().unwrap()),
            webhook_retry_pause: Duration::from_millis(1),
            apps: vec![ClientCredentials {
                client_id: "second-a".to_owned(),
                client_secret: "secret-a".into(),
            }],
            ..Config::default()
        })
        .await;
        Self {
            sandbox,
            most_in_flight,
            bodies,
        }
    }

    async fn raw(&mut self) -> Bytes {
        let body = tokio::time::timeout(Duration::from_secs(20), self.bodies.recv());
        body.await.expect("no webhook came").unwrap()
    }

    async fn next(&mut self) -> Value {
        serde_json::from_slice(&self.raw().await).unwrap()
    }

    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.next().await);
        }
        taken
    }

    /// Whether no webhook is on its way.
    async fn is_quiet(&mut self) -> bool {
        let wait = Duration::from_millis(100);
        tokio::time::timeout(wait, self.bodies.recv())
            .await
            .is_err()
    }
}

/// The locations of the webhooks. That of the company is empty.
fn places(events: &[Value]) -> BTreeSet<&str> {
    events
        .iter()
        .map(|event| event["locationId"].as_str().unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn bulk_consent_sends_installs_before_the_code_is_exchanged() {
    let mut app = Receiver::start(0).await;
    let code = app.sandbox.code(&[("companyId", COMPANY)]).await;
    let events = app.take(4).await;
    assert_eq!(
        places(&events),
        BTreeSet::from(["", LOCATIONS[0], LOCATIONS[1], LOCATIONS[2]])
    );
    let tokens = app.sandbox.exchange(&code).await;
    for event in &events {
        let is_company = event.get("locationId").is_none();
        assert_eq!(event["type"], "INSTALL");
        assert_eq!(event["appId"], "sandbox");
        assert_eq!(
            event["installType"],
            if is_company { "Company" } else { "Location" }
        );
        assert_eq!(event["companyId"], COMPANY);
        assert_eq!(event["userId"], tokens["userId"]);
        assert_eq!(event["companyName"], "Northwind Sandbox Agency");
        assert_eq!(event["trial"]["onTrial"], false);
        assert_eq!(event["isWhitelabelCompany"], false);
        assert_eq!(event["whitelabelDetails"], json!({}));
        for field in ["versionId", "planId", "timestamp", "webhookId"] {
            assert!(event[field].is_string(), "{field} in {event}");
        }
    }
    let ids: BTreeSet<_> = events
        .iter()
        .map(|event| event["webhookId"].as_str())
        .collect();
    assert_eq!(ids.len(), 4);
    assert!(app.is_quiet().await);
}

#[tokio::test]
async fn only_chosen_and_covered_later_locations_get_installs() {
    let mut app = Receiver::start(0).await;
    let choice = [("companyId", COMPANY), ("locations", HARBOR)];
    app.sandbox.code(&choice).await;
    assert_eq!(places(&app.take(2).await), BTreeSet::from(["", HARBOR]));
    let later = json!({"companyId": COMPANY, "locationId": "later1"});
    app.sandbox.control("locations", later).await;
    let event = app.next().await;
    assert_eq!(
        (&event["type"], &event["locationId"]),
        (&json!("INSTALL"), &json!("later1"))
    );
    let elsewhere = json!({"companyId": "other", "locationId": "later2"});
    app.sandbox.control("locations", elsewhere).await;
    assert!(app.is_quiet().await);
}

#[tokio::test]
async fn uninstalls_name_the_location_or_the_company() {
    let mut app = Receiver::start(0).await;
    app.sandbox.install_agency(COMPANY).await;
    app.take(4).await;
    app.sandbox
        .control("uninstall", json!({"locationId": HARBOR}))
        .await;
    let event = app.next().await;
    assert_eq!(
        (&event["type"], &event["locationId"]),
        (&json!("UNINSTALL"), &json!(HARBOR))
    );
    assert!(event.get("companyId").is_none(), "{event}");
    app.sandbox
        .control("uninstall", json!({"companyId": COMPANY}))
        .await;
    let event = app.next().await;
    assert_eq!(
        (&event["type"], &event["companyId"]),
        (&json!("UNINSTALL"), &json!(COMPANY))
    );
    assert!(event.get("locationId").is_none());
    assert!(app.is_quiet().await, "one for all its locations");
}

#[tokio::test]
async fn updates_and_plan_changes_are_sent_on_request() {
    let mut app = Receiver::start(0).await;
    let update = json!({"type": "UPDATE", "locationId": HARBOR, "appId": "second",
        "fields": {"versionId": "v2"}});
    app.sandbox.control("webhooks", update).await;
    let event = app.next().await;
    assert_eq!(
        (&event["type"], &event["appId"]),
        (&json!("UPDATE"), &json!("second"))
    );
    assert_eq!(event["versionId"], "v2");
    assert!(event["previousVersionId"].is_string());
    let change = json!({"type": "PLAN_CHANGE", "companyId": COMPANY, "fields": {"userId": null}});
    app.sandbox.control("webhooks", change).await;
    let event = app.next().await;
    assert_eq!(event["type"], "PLAN_CHANGE");
    assert_ne!(event["currentPlanId"], event["newPlanId"]);
    assert!(event.get("userId").is_none());
    let unknown = json!({"type": "UPDATE", "companyId": COMPANY, "appId": "nobody"});
    let request = app.sandbox.post("/_sandbox/webhooks").json(&unknown);
    assert_eq!(answer(request).await.0, 422);
}

#[tokio::test]
async fn refused_webhooks_are_retried_with_the_same_body() {
    let mut app = Receiver::start(3).await;
    app.sandbox.code(&[("locationId", HARBOR)]).await;
    let first = app.raw().await;
    for _ in 0..3 {
        assert_eq!(app.raw().await, first);
    }
    assert!(app.is_quiet().await, "it was delivered");
    let counts = app.sandbox.ledger().await["webhooks"].clone();
    assert_eq!(
        counts,
        json!({"created": 1, "attempts": 4, "delivered": 1, "abandoned": 0})
    );
}

#[tokio::test]
async fn webhook_is_abandoned_after_twelve_retries() {
    let mut app = Receiver::start(13).await;
    app.sandbox.code(&[("locationId", HARBOR)]).await;
    for _ in 0..13 {
        app.raw().await;
    }
    assert!(app.is_quiet().await);
    let counts = app.sandbox.ledger().await["webhooks"].clone();
    assert_eq!(
        counts,
        json!({"created": 1, "attempts": 13, "delivered": 0, "abandoned": 1})
    );
}

#[tokio::test]
async fn original_body_can_be_sent_again() {
    let mut app = Receiver::start(0).await;
    app.sandbox.code(&[("locationId", HARBOR)]).await;
    let first = app.raw().await;
    let id = serde_json::from_slice::<Value>(&first).unwrap()["webhookId"].clone();
    let sent = app
        .sandbox
        .control("webhooks/resend", json!({"webhookId": id}))
        .await;
    assert_eq!(sent["status"], 200);
    assert_eq!(app.raw().await, first);
    let (_, list) = answer(app.sandbox.get("/_sandbox/webhooks")).await;
    assert_eq!(
        (&list[0]["attempts"], &list[0]["status"]),
        (&json!(2), &json!(200))
    );
    assert_eq!(list[0]["body"]["webhookId"], id);
    let unknown = app
        .sandbox
        .post("/_sandbox/webhooks/resend")
        .json(&json!({"webhookId": "none"}));
    assert_eq!(answer(unknown).await.0, 404);
}

#[tokio::test]
async fn fields_can_be_left_out() {
    let mut app = Receiver::start(0).await;
    app.sandbox
        .set(json!({"webhook_without_company_id": true}))
        .await;
    app.sandbox.code(&[("locationId", HARBOR)]).await;
    let event = app.next().await;
    assert!(
        event.get("companyId").is_none() && event["userId"].is_string(),
        "{event}"
    );
    let other = json!({"webhook_without_company_id": false, "webhook_without_user_id": true});
    app.sandbox.set(other).await;
    app.sandbox.code(&[("locationId", HARBOR)]).await;
    let event = app.next().await;
    assert!(
        event.get("userId").is_none() && event["companyId"] == COMPANY,
        "{event}"
    );
}

#[tokio::test]
async fn all_locations_of_a_large_agency_get_their_webhook() {
    let mut app = Receiver::start(50).await;
    let agency = json!({"companyId": "big", "locations": 2_000});
    app.sandbox.control("agencies", agency).await;
    app.sandbox.code(&[("companyId", "big")]).await;
    let events = app.take(2_051).await;
    assert_eq!(places(&events).len(), 2_001);
    assert!(app.is_quiet().await);
    let counts = app.sandbox.ledger().await["webhooks"].clone();
    assert_eq!(counts["delivered"], 2_001);
    let most = app.most_in_flight.load(Ordering::Relaxed);
    assert!((2..=32).contains(&most), "{most} at the same time");
}

#[tokio::test]
async fn webhook_without_an_answer_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sandbox = Sandbox::with(Config {
        webhook_url: Some(format!("http://{address}/hook").parse().unwrap()),
        webhook_retry_pause: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    sandbox.code(&[("locationId", HARBOR)]).await;
    while sandbox.ledger().await["webhooks"]["attempts"] == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (sender, mut received) = mpsc::unbounded_channel();
    let receive = move || {
        let _ = sender.send(());
        async {}
    };
    let router = Router::new().route("/hook", post(receive));
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let came = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
    assert_eq!(came, Ok(Some(())));
}
