//! One-time links, and events about those who connect, in every way in which they end.

use reqwest::Client;
use serde_json::{Value, json};
use tests::client::{self, send};
use tests::fleet::Fleet;
use tests::receiver::{Mood, Receiver};
use tests::wait::{holds, until};

use super::search::Search;
use super::{PATIENCE, STRAY_KEY};

/// Makes a link, and plants its secret. Returns its address.
async fn link(fleet: &Fleet, admin: &Client, request: Value, search: &mut Search) -> String {
    let ask = admin.post(format!("{}/v1/connect-links", fleet.gateways[0].internal));
    let (status, made) = send(ask.json(&request)).await;
    assert_eq!(status, 201, "{made}");
    let url = made["url"].as_str().unwrap();
    let (_, secret) = url.rsplit_once('/').unwrap();
    search.plant("a one-time link", secret);
    format!("{}/connect/{secret}", fleet.haproxy.url)
}

/// Consents by links, and requests that are refused.
pub(super) async fn links(fleet: &Fleet, admin: &Client, search: &mut Search) {
    let browser = client::anonymous();
    let public = fleet.haproxy.url.as_str();
    let fault = json!({
        "on": "token", "grant": "authorization_code", "kind": "echo", "status": 400, "next": 1,
    });
    for (location, faults) in [
        ("linkedA", json!([])),
        ("linkedA", json!([fault])),
        ("linkedB", json!([])),
    ] {
        let request = json!({ "external_id": "customer-42", "location_id": "linkedA" });
        let link = link(fleet, admin, request, search).await;
        fleet.sandbox.faults(faults).await;
        let choice = ("locationId", location);
        let callback = client::consented_from(&browser, (public, &link), choice).await;
        let callback = callback.unwrap();
        let again = callback.try_clone().unwrap();
        search.tell(callback).await;
        search.tell(again).await;
        // It is used up, or leads to the consent.
        search.tell(browser.get(&link)).await;
        search.tell(browser.get(format!("{link}0"))).await;
        // The answer to an unknown method or path repeats the path to its sender. It must not be in a log.
        send(browser.post(&link)).await;
        send(browser.get(format!("{link}/x"))).await;
    }
    fleet.sandbox.faults(json!([])).await;
    let short = link(fleet, admin, json!({ "expires_in": 1 }), search).await;
    until("the end of a link", PATIENCE, || async {
        let (status, body) = send(browser.get(&short)).await;
        holds(status == 410, (status, body))
    })
    .await;
    search.tell(browser.get(&short)).await;

    // The secret is where it does not belong.
    let (_, secret) = short.rsplit_once('/').unwrap();
    let internal = &fleet.gateways[0].internal;
    for wrong in [
        json!({ "return_to": format!("http://elsewhere.example/{secret}") }),
        json!({ "external_id": format!("{secret} ") }),
        json!({ "app": secret }),
    ] {
        // The answer may repeat what it refuses.
        let ask = admin.post(format!("{internal}/v1/connect-links"));
        let (status, body) = send(ask.json(&wrong)).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
    let keyless = browser.post(format!("{internal}/v1/connect-links"));
    search
        .tell(keyless.bearer_auth(STRAY_KEY).json(&json!({})))
        .await;
}

/// Lets the endpoint of events refuse messages, and take them.
pub(super) async fn events(
    fleet: &Fleet,
    admin: &Client,
    receiver: &Receiver,
    search: &mut Search,
) {
    let internal = &fleet.brokers[0].internal;
    let (_, shown) = search
        .tell(admin.get(format!("{internal}/v1/event-endpoints")))
        .await;
    let id = shown["endpoints"][0]["id"].as_str().unwrap();
    let test = || admin.post(format!("{internal}/v1/event-endpoints/{id}/test"));
    until("a refused message", PATIENCE, || async {
        holds(!receiver.all().is_empty(), "none")
    })
    .await;
    search.tell(test()).await;
    receiver.be(Mood::Take);
    search.tell(test()).await;
    receiver.wait_for_count(1, PATIENCE).await;
    receiver.taken()[0].verify();
}
