//! Webhooks from GHL, and forged ones.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use store::Timestamp;
use tests::client::{get, raw, send};
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

async fn status(up: &Up, id: &str) -> Value {
    let url = format!("{}/api/oauth/status?installation_id={id}", up.public);
    get(&up.client, &url).await.1
}

async fn until_token_is(up: &Up, id: &str, expected: &str) {
    until(&format!("the token to be {expected}"), PATIENCE, || async {
        let seen = status(up, id).await;
        holds(seen["tokenStatus"] == expected, seen)
    })
    .await;
}

/// Waits until a call of the installation is answered with this status. Gateways receive a change shortly after the
/// broker made it.
async fn until_call_is(up: &Up, id: &str, expected: u16) -> Value {
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    until(
        &format!("a response with status {expected}"),
        PATIENCE,
        || async {
            let (status, body) = get(&up.client, &url).await;
            holds(status == expected, (status, &body)).map(|()| body)
        },
    )
    .await
}

/// An `up` that receives the webhooks of a sandbox.
async fn connected() -> (Up, Sandbox) {
    let up = Up::start(&[]).await;
    let hook = format!("{}/webhooks/ghl", up.public);
    let sandbox = Sandbox::start(&[("WEBHOOK_URL", &hook)]).await;
    let key = sandbox.webhook_key().await;
    let up = up.with("GHL_WEBHOOK_ED25519_KEY", key);
    (up.against(&sandbox).await, sandbox)
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstall_revokes_installation_until_next_consent() {
    let (up, sandbox) = connected().await;
    let id = up.install("locA").await;
    let other = up.install("locB").await;
    let before = status(&up, &id).await;
    assert_eq!(before["tokenStatus"], "valid");

    // As an agency's administrator does it: the sandbox revokes the grant and sends the webhook.
    let url = format!("{}/ghl/marketplace/app/sandbox/installations", up.public);
    let uninstall = up.client.delete(url).json(&json!({ "locationId": "locA" }));
    let (code, response) = send(uninstall).await;
    assert_eq!(code, 200, "{response}");
    until_token_is(&up, &id, "revoked").await;
    let seen = status(&up, &id).await;
    assert_eq!(seen["nextRefreshAt"], Value::Null, "nothing to refresh");
    assert_eq!(seen["reconnect"], "/oauth/install");
    let refusal = until_call_is(&up, &id, 400).await;
    assert_eq!(refusal["reconnect"], "/oauth/install");
    assert_eq!(refusal["installation_id"], id);
    let token = format!("{}/v1/installations/{id}/token", up.internal);
    assert_eq!(get(&up.client, &token).await.0, 400);
    until_call_is(&up, &other, 200).await;

    assert_eq!(up.install("locA").await, id, "the same installation");
    until_token_is(&up, &id, "valid").await;
    until_call_is(&up, &id, 200).await;
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["spent_after_revocation"], 0, "{ledger}");
    assert_eq!(ledger["calls_with_unknown_token"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_webhook_is_accepted_once_at_any_age() {
    let (up, sandbox) = connected().await;
    let id = up.install("locA").await;
    let tell = async |webhook: &str, at: Option<Timestamp>| {
        let mut event = json!({
            "type": "UNINSTALL", "locationId": "locA", "webhookId": webhook,
        });
        if let Some(at) = at {
            event["timestamp"] = json!(at.to_string());
        }
        sandbox.webhook(&event).await["status"].clone()
    };
    let now = Timestamp::of_this_machine();
    let hours = |n: u64| Duration::from_secs(n * 3600);
    // It is older than the consent.
    assert_eq!(tell("old", Some(now - hours(9))).await, 200);
    assert_eq!(status(&up, &id).await["tokenStatus"], "valid");
    // GHL's clock is ahead, which must not end a later consent.
    assert_eq!(tell("ahead", Some(now + hours(9))).await, 200);
    until_token_is(&up, &id, "revoked").await;
    assert_eq!(up.install("locA").await, id);
    until_call_is(&up, &id, 200).await;

    assert_eq!(tell("once", None).await, 200);
    until_token_is(&up, &id, "revoked").await;
    assert_eq!(up.install("locA").await, id);
    until_call_is(&up, &id, 200).await;
    assert_eq!(
        tell("once", None).await,
        200,
        "otherwise GHL would send it again"
    );
    assert_eq!(status(&up, &id).await["tokenStatus"], "valid");
    until_call_is(&up, &id, 200).await;
    assert_eq!(tell("another", None).await, 200);
    until_token_is(&up, &id, "revoked").await;
}

/// An `up`, and a key with which the test signs webhooks as GHL.
pub(crate) struct Ghl {
    pub(crate) up: Up,
    key: Ed25519KeyPair,
}

pub(crate) fn new_key() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

pub(crate) fn pem(key: &Ed25519KeyPair) -> String {
    // The prefix of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
    let head = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    let der = [&head, key.public_key().as_ref()].concat();
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

pub(crate) fn signature(key: &Ed25519KeyPair, body: &str) -> String {
    BASE64_STANDARD.encode(key.sign(body.as_bytes()))
}

/// An UNINSTALL of `locA` with a timestamp in milliseconds.
fn uninstall(webhook: &str, at: Timestamp) -> String {
    let event = json!({
        "type": "UNINSTALL", "appId": "sandbox", "locationId": "locA", "webhookId": webhook,
        "timestamp": iso(at),
    });
    event.to_string()
}

/// As GHL writes it, in milliseconds.
pub(crate) fn iso(at: Timestamp) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at.as_millis().try_into().unwrap());
    humantime::format_rfc3339_millis(at).to_string()
}

impl Ghl {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings of `up`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let key = new_key();
        let pem = pem(&key);
        let settings = [&[("GHL_WEBHOOK_ED25519_KEY", pem.as_str())], settings].concat();
        let up = Up::start(&settings).await;
        Self { up, key }
    }

    pub(crate) fn sign(&self, body: &str) -> String {
        signature(&self.key, body)
    }

    pub(crate) async fn post(&self, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/webhooks/ghl", self.up.public);
        let request = self.up.client.post(url).body(body.to_owned());
        let request = request.header("content-type", "application/json");
        let headers = headers.iter();
        send(headers.fold(request, |request, (name, value)| {
            request.header(*name, *value)
        }))
        .await
    }

    pub(crate) async fn tell(&self, body: &str) -> (u16, Value) {
        let signature = self.sign(body);
        self.post(body, &[("x-ghl-signature", &signature)]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_without_valid_signature_is_rejected() {
    let ghl = Ghl::new().await;
    let id = ghl.up.install("locA").await;
    let body = uninstall("w1", Timestamp::of_this_machine());
    let right = signature(&ghl.key, &body);
    let forged = signature(&new_key(), &body);
    let of_another = signature(&ghl.key, &body.replace("locA", "locB"));
    let cases: [&[(&str, &str)]; 8] = [
        &[],
        &[("x-ghl-signature", "")],
        &[("x-ghl-signature", "not base64 §")],
        &[("x-ghl-signature", &forged)],
        &[("x-ghl-signature", &of_another)],
        &[("x-ghl-signature", &right[..right.len() - 4])],
        &[("x-wh-signature", &right)],
        &[("x-ghl-signature", &forged), ("x-wh-signature", &right)],
    ];
    for headers in cases {
        let (code, refusal) = ghl.post(&body, headers).await;
        assert_eq!(code, 401, "{headers:?}: {refusal}");
        let seen = status(&ghl.up, &id).await;
        assert_eq!(seen["tokenStatus"], "valid", "{headers:?}");
    }
    let spaced = format!("{body} ");
    let (code, _) = ghl.post(&spaced, &[("x-ghl-signature", &right)]).await;
    assert_eq!(code, 401, "every byte is signed");
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "valid");

    let (code, response) = ghl.tell(&body).await;
    assert_eq!(
        code, 200,
        "a rejected webhook is not recorded as processed: {response}"
    );
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_webhook_is_detected_despite_a_new_timestamp() {
    let ghl = Ghl::new().await;
    let id = ghl.up.install("locA").await;
    let body = uninstall("w1", Timestamp::of_this_machine());
    assert_eq!(ghl.tell(&body).await.0, 200);
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "revoked");
    assert_eq!(ghl.up.install("locA").await, id);
    for replay in [body, uninstall("w1", Timestamp::of_this_machine())] {
        let (code, response) = ghl.tell(&replay).await;
        assert_eq!((code, &response["duplicate"]), (200, &json!(true)));
        assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "valid");
    }
    let body = uninstall("w2", Timestamp::of_this_machine());
    assert_eq!(ghl.tell(&body).await.0, 200);
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstall_dated_before_last_consent_is_ignored() {
    let ghl = Ghl::new().await;
    let id = ghl.up.install("locA").await;
    let before = Timestamp::of_this_machine();
    assert_eq!(ghl.up.install("locA").await, id);
    let (code, response) = ghl.tell(&uninstall("w1", before)).await;
    assert_eq!(code, 200, "{response}");
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "valid");
    until_call_is(&ghl.up, &id, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_webhook_that_does_not_apply_is_ignored() {
    let ghl = Ghl::new().await;
    let id = ghl.up.install("locA").await;
    let now = Timestamp::of_this_machine();
    let body = uninstall("w1", now);
    let with = |field: &str, value: Value| {
        let mut event: Value = serde_json::from_str(&body).unwrap();
        event["webhookId"] = json!(format!("other {field} {value}"));
        event[field] = value;
        event.to_string()
    };
    for body in [
        with("type", json!("INSTALL")),
        with("type", json!("ContactCreate")),
        with("appId", json!("another")),
        with("appId", Value::Null),
        with("locationId", json!("locX")),
        with("locationId", Value::Null),
        with("type", json!(7)),
        with("timestamp", json!("yesterday")),
        "no json".to_owned(),
    ] {
        let (code, response) = ghl.tell(&body).await;
        assert_eq!(code, 200, "{body}: {response}");
        assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "valid", "{body}");
    }
    let app = with("appId", json!("sandbox"));
    assert_eq!(ghl.tell(&app).await.0, 200);
    assert_eq!(status(&ghl.up, &id).await["tokenStatus"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_of_a_stranger_is_refused_before_its_body_is_read() {
    let ghl = Ghl::new().await;
    let address = ghl.up.public.strip_prefix("http://").unwrap();
    let head = |more: &str| {
        format!(
            "POST /webhooks/ghl HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n\r\n{{"
        )
    };
    // 64 bytes in Base64.
    let signature = format!("X-Ghl-Signature: {}==", "A".repeat(86));
    for (more, expected) in [
        (format!("Content-Length: 300000\r\n{signature}"), 413),
        ("Content-Length: 100".to_owned(), 401),
        (
            "Content-Length: 100\r\nX-Ghl-Signature: AAAA".to_owned(),
            401,
        ),
        ("Content-Length: 100\r\nX-Ghl-Signature: §".to_owned(), 401),
    ] {
        let (status, response) = raw(&ghl.up.public, head(&more)).await;
        assert_eq!(status, expected, "{more}: {response}");
    }
    // A body that never ends is given up.
    let never = head(&format!("Content-Length: 100\r\n{signature}"));
    let (status, response) = raw(&ghl.up.public, never).await;
    assert_eq!(status, 408, "{response}");
}
