//! Each change of an installation has one event, with its type and its facts.

use std::sync::atomic::{AtomicUsize, Ordering};

use ring::signature::Ed25519KeyPair;
use store::Timestamp;

use super::*;
use crate::webhooks::{iso, signature};

/// A process to talk to, and what GHL is for it.
struct Host<'a> {
    client: &'a Client,
    public: &'a str,
    internal: &'a str,
    sandbox: &'a Sandbox,
    /// Signs webhooks as GHL. Those of the sandbox are refused.
    key: &'a Ed25519KeyPair,
}

impl Host<'_> {
    async fn install(&self) -> String {
        client::install(self.client, self.public, "locA").await
    }

    async fn post(&self, path: &str) -> (u16, Value) {
        let url = format!("{}/v1/installations/locA/{path}", self.internal);
        send(self.client.post(url)).await
    }

    async fn tell(&self, kind: &str, facts: Value) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut event = facts;
        event["type"] = json!(kind);
        event["appId"] = json!("sandbox");
        event["locationId"] = json!("locA");
        event["webhookId"] = json!(format!("w{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        event["timestamp"] = json!(iso(Timestamp::of_this_machine()));
        let body = event.to_string();
        let signature = signature(self.key, &body);
        let request = self.client.post(format!("{}/webhooks/ghl", self.public));
        let request = request.header("x-ghl-signature", signature);
        let (status, answer) = send(request.body(body)).await;
        assert_eq!(status, 200, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_tells_the_life_of_an_installation() {
    let receiver = Receiver::start().await;
    let key = new_key();
    let up = up_with(&receiver, &[("GHL_WEBHOOK_ED25519_KEY", &pem(&key))]).await;
    let host = Host {
        client: &up.client,
        public: &up.public,
        internal: &up.internal,
        sandbox: &up.sandbox,
        key: &key,
    };
    tell_life(&receiver, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_tell_the_life_of_an_installation() {
    let receiver = Receiver::start().await;
    let [url, secret, private] = receiver.settings();
    let key = new_key();
    let pem = pem(&key);
    let settings = [
        (url.0, url.1.as_str()),
        (secret.0, secret.1.as_str()),
        (private.0, private.1.as_str()),
        ("GHL_WEBHOOK_ED25519_KEY", pem.as_str()),
    ];
    let fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[],
        settings: &settings,
    })
    .await;
    let host = Host {
        client: &fleet.client,
        public: &fleet.haproxy.url,
        internal: &fleet.brokers[0].internal,
        sandbox: &fleet.sandbox,
        key: &key,
    };
    tell_life(&receiver, &host).await;
}

async fn tell_life(receiver: &Receiver, host: &Host<'_>) {
    let event = async |kind: &str| {
        let kind = format!("installation.{kind}");
        receiver.event(&kind, "locA", PATIENCE).await
    };
    let id = host.install().await;
    let connected = event("connected").await;
    assert_eq!(connected["app"], "default", "{connected}");
    let installation = &connected["installation"];
    assert_eq!(installation["id"], id.as_str(), "{connected}");
    assert!(installation.get("companyId").is_some(), "{connected}");
    assert_eq!(installation["status"], "active", "{connected}");
    assert_eq!(installation["reason"], Value::Null);
    assert_eq!(installation["reconnectLink"], Value::Null);
    let time = connected["time"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    let text = connected.to_string().to_lowercase();
    assert!(!text.contains("token"), "no secret is in an event: {text}");

    let url = format!("{}/v1/installations/{id}", host.internal);
    let change = json!({ "tags": ["vip"], "external_id": "customer-7" });
    let (status, body) = send(host.client.patch(url).json(&change)).await;
    assert_eq!(status, 200, "{body}");
    let is_updated = |taken: &[Received]| {
        let of = |one: &&Received| one.json()["installation"]["externalId"] == "customer-7";
        taken.iter().find(of).map(Received::json)
    };
    let updated = receiver
        .wait_for("the external id", PATIENCE, is_updated)
        .await;
    assert_eq!(updated["type"], "installation.updated", "{updated}");
    assert_eq!(updated["installation"]["tags"], json!(["vip"]), "{updated}");

    let plan = json!({ "planId": "p1", "companyName": "Northwind" });
    host.tell("INSTALL", plan).await;
    let change = json!({ "currentPlanId": "p1", "newPlanId": "p2" });
    host.tell("PLAN_CHANGE", change).await;
    let planned = event("plan_changed").await;
    let details = &planned["installation"]["details"];
    let expected = json!({ "planId": "p2", "previousPlanId": "p1", "companyName": "Northwind" });
    assert_eq!(*details, expected, "{planned}");
    host.tell("UPDATE", json!({ "versionId": "v2" })).await;

    host.sandbox.steer("pause", "locA").await;
    assert_ne!(host.post("refresh").await.0, 200);
    let paused = event("paused").await;
    assert_eq!(paused["installation"]["status"], "paused", "{paused}");
    assert!(paused["installation"]["reason"].is_string(), "{paused}");
    host.sandbox.steer("resume", "locA").await;
    assert_eq!(host.post("refresh").await.0, 200);
    event("resumed").await;

    let refusing = json!([{
        "on": "token", "kind": "invalid_grant", "share": 1.0, "locationId": "locA",
    }]);
    host.sandbox.faults(refusing).await;
    assert_ne!(host.post("refresh").await.0, 200);
    // GHL is asked three times within a minute.
    let needs = "installation.needs_consent";
    let patience = Duration::from_secs(120);
    let needs = receiver.event(needs, "locA", patience).await;
    assert_eq!(needs["installation"]["status"], "invalid", "{needs}");
    assert!(needs["installation"]["reason"].is_string(), "{needs}");
    let link = needs["installation"]["reconnectLink"].as_str();
    assert!(link.unwrap().ends_with("/oauth/install"), "{needs}");
    host.sandbox.faults(json!([])).await;
    assert_eq!(host.post("refresh?force=true").await.0, 200);
    let recovered = event("recovered").await;
    assert_eq!(recovered["installation"]["reason"], Value::Null);

    assert_eq!(host.post("revoke").await.0, 200);
    let ended = event("uninstalled").await;
    assert_eq!(ended["installation"]["status"], "revoked", "{ended}");
    let reason = &ended["installation"]["reason"];
    assert_eq!(reason, "revoked by an operator", "{ended}");
    let link = ended["installation"]["reconnectLink"].as_str();
    assert!(link.unwrap().ends_with("/oauth/install"), "{ended}");
    assert_eq!(host.install().await, id, "the same installation");
    event("reconnected").await;

    host.tell("UNINSTALL", json!({})).await;
    host.install().await;
    host.install().await;
    let expected = [
        "connected",
        "updated",
        "updated",
        "plan_changed",
        "updated",
        "paused",
        "resumed",
        "needs_consent",
        "recovered",
        "uninstalled",
        "reconnected",
        "uninstalled",
        "reconnected",
        "reconnected",
    ];
    let expected = expected.map(|kind| format!("installation.{kind}"));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    until("all events", PATIENCE, || async {
        let seen = kinds(&receiver.taken(), "locA");
        holds(seen == expected, seen)
    })
    .await;
    let taken = receiver.taken();
    taken.iter().for_each(Received::verify);
    expect_no_repetition(&taken);
    let by_ghl = taken
        .iter()
        .rev()
        .find(|one| one.kind().ends_with("uninstalled"));
    let reason = &by_ghl.unwrap().json()["installation"]["reason"];
    assert_eq!(reason, "uninstalled at GHL");
    let with_customer = taken.last().unwrap().json();
    assert_eq!(with_customer["installation"]["tags"], json!(["vip"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn customer_who_consents_after_a_refusal_is_reconnected() {
    let receiver = Receiver::start().await;
    let fleet = fleet_with(&receiver, 2, &[("TOKEN_LIFETIME", "8s")]).await;
    let install = async || client::install(&fleet.client, &fleet.haproxy.url, "locA").await;
    let id = install().await;
    fleet.sandbox.steer("revoke", "locA").await;
    let patience = Duration::from_secs(120);
    let needs = "installation.needs_consent";
    receiver.event(needs, "locA", patience).await;
    assert_eq!(install().await, id);
    receiver
        .event("installation.reconnected", "locA", PATIENCE)
        .await;
    let expected = ["connected", "needs_consent", "reconnected"];
    let expected = expected.map(|kind| format!("installation.{kind}"));
    assert_eq!(changes(&receiver.taken(), "locA"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_client_credentials_are_told_about_the_app() {
    let receiver = Receiver::start().await;
    let settings = [("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")];
    let up = up_with(&receiver, &settings).await;
    for number in 0..6 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    let told = receiver
        .event("app.credentials_rejected", "", PATIENCE)
        .await;
    assert_eq!(told["app"], "default", "{told}");
    assert!(told["reason"].is_string(), "{told}");
    assert_eq!(told.get("installation"), None, "{told}");
    up.sandbox.faults(json!([])).await;
    let spent = up.sandbox.count("refresh_tokens_spent").await;
    until("refreshes to go on", PATIENCE, || async {
        let now = up.sandbox.count("refresh_tokens_spent").await;
        holds(now >= spent + 6, now)
    })
    .await;
    let taken = receiver.taken();
    let told = taken.iter().map(Received::kind);
    let told: Vec<_> = told
        .filter(|kind| {
            !matches!(
                kind.as_str(),
                "installation.connected" | "installation.updated"
            )
        })
        .collect();
    assert_eq!(told, ["app.credentials_rejected"]);
}

/// GHL's webhook comes before the browser does, and the browser may never come.
#[tokio::test(flavor = "multi_thread")]
async fn announced_location_is_connected_only_by_its_consent() {
    let receiver = Receiver::start().await;
    let up = up_with(&receiver, &[]).await;
    let consented = client::consented(&up.client, &up.public, ("locationId", "locW"));
    let callback = consented.await.unwrap();
    until("the announced location", PATIENCE, || async {
        let url = format!("{}/v1/installations/locW", up.internal);
        let (_, seen) = send(up.client.get(url)).await;
        holds(seen["lastError"]["kind"] == "awaits_consent", seen)
    })
    .await;
    let connected = client::body(callback.send().await.unwrap()).await;
    assert_eq!(connected["status"], "connected", "{connected}");
    let of_location = |one: &Received| {
        let event = one.json();
        (event["installation"]["locationId"] == "locW").then_some(event)
    };
    let told = receiver
        .wait_for("the event of the consent", PATIENCE, |taken| {
            taken.iter().find_map(of_location)
        })
        .await;
    assert_eq!(told["type"], "installation.connected", "{told}");
    let granted = &told["installation"]["id"];
    assert_eq!(*granted, connected["installationId"], "{told}");
}
