//! Webhooks as the app receives them.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use sandbox::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{Sandbox, answer, send};

type Delivery = (HeaderMap, Bytes);

/// An app that forwards the webhooks that it receives.
async fn app() -> (String, mpsc::UnboundedReceiver<Delivery>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receive = |State(sender): State<mpsc::UnboundedSender<Delivery>>,
                   headers: HeaderMap,
                   body: Bytes| async move {
        let _ = sender.send((headers, body));
    };
    let router = Router::new()
        .route("/hook", post(receive))
        .with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

async fn next(deliveries: &mut mpsc::UnboundedReceiver<Delivery>) -> (HeaderMap, Bytes, Value) {
    let (headers, body) = tokio::time::timeout(Duration::from_secs(10), deliveries.recv())
        .await
        .expect("no webhook came")
        .unwrap();
    let json = serde_json::from_slice(&body).unwrap();
    (headers, body, json)
}

#[tokio::test]
async fn installs_and_uninstalls_send_signed_webhooks() {
    let (url, mut deliveries) = app().await;
    let sandbox = Sandbox::with(Config {
        webhook_url: Some(url.parse().unwrap()),
        ..Config::default()
    })
    .await;
    let pem = send(sandbox.get("/_sandbox/webhook-key.pem")).await;
    let pem = pem.text().await.unwrap();
    let key = STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap();
    let key = UnparsedPublicKey::new(&ED25519, &key[12..]);

    let access = sandbox.install("loc1").await.access;
    let (headers, raw, install) = next(&mut deliveries).await;
    let signature = STANDARD.decode(&headers["x-ghl-signature"]).unwrap();
    key.verify(&raw, &signature).unwrap();
    assert_eq!(install["type"], "INSTALL");
    assert_eq!(install["locationId"], "loc1");
    assert_eq!(install["appId"], "sandbox");

    let uninstall = sandbox
        .call(
            Method::DELETE,
            "/marketplace/app/sandbox/installations",
            &access,
        )
        .json(&json!({"locationId": "loc1", "reason": "test"}));
    let (status, body) = answer(uninstall).await;
    assert_eq!((status.as_u16(), body), (200, json!({"success": true})));
    let (_, _, uninstall) = next(&mut deliveries).await;
    assert_eq!(uninstall["type"], "UNINSTALL");
    let call = sandbox.call(Method::GET, "/locations/loc1", &access);
    assert_eq!(answer(call).await.0, 401);

    let order = json!({"type": "UNINSTALL", "companyId": "comp1", "webhookId": "twice",
        "timestamp": "2020-01-01T00:00:00.000Z"});
    let sent = sandbox.control("webhooks", order).await;
    assert_eq!(sent["status"], 200);
    let (_, _, ordered) = next(&mut deliveries).await;
    assert_eq!(sent["sent"], ordered);
    assert_eq!(ordered["webhookId"], "twice");
    assert_eq!(ordered["timestamp"], "2020-01-01T00:00:00.000Z");
    assert!(ordered.get("locationId").is_none());
}

#[tokio::test]
async fn sending_a_webhook_without_a_url_is_an_error() {
    let sandbox = Sandbox::start().await;
    let order = sandbox
        .post("/_sandbox/webhooks")
        .json(&json!({"type": "INSTALL", "locationId": "loc1"}));
    let (status, body) = answer(order).await;
    assert_eq!(status, 502);
    assert_eq!(body["message"], "no webhook URL is set");
}
