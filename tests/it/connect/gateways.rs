//! Gateways pass links on, and find installations by external id.

use tests::fleet::{Fleet, FleetConfig};

use super::*;

/// The promise is one second. The rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// It needs percent-encoding in a path.
const ODD: &str = "org/7:b@example.com%2F?x=1";

async fn start() -> Fleet {
    Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await
}

/// Which location's token a call of this name takes at a gateway, or the code of the error.
async fn called(public: &str, name: &str) -> Value {
    let url = format!("{public}/ghl/_sandbox/echo/x");
    let call = client::new().get(url).header("x-installation-id", name);
    let (status, mut body) = send(call).await;
    match status {
        200 => body["authClassId"].take(),
        _ => body["code"].take(),
    }
}

/// Connects a location with a link that a gateway passed on to a broker.
async fn connect(fleet: &Fleet, external_id: &str, location: &str) {
    let request = json!({ "external_id": external_id, "replace": true });
    let link = link(&fleet.gateways[1].internal, request).await;
    let browser = Browser::new(&fleet.haproxy.url);
    let redirect = browser
        .consent(&link, &format!("locationId={location}"))
        .await;
    let page = browser.open(redirect.leads_to()).await;
    assert!(page.body.contains("<h1>Connected</h1>"), "{}", page.body);
}

fn publics(fleet: &Fleet) -> Vec<String> {
    let gateways = fleet.gateways.iter();
    gateways
        .map(|it| format!("http://{}", it.address))
        .collect()
}

async fn until_called(fleet: &Fleet, name: &str, expected: &str) {
    for public in publics(fleet) {
        until(&format!("{name} to be {expected}"), SOON, || async {
            let seen = called(&public, name).await;
            holds(seen == expected, seen)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_find_an_installation_by_its_external_id_and_follow_its_moves() {
    let fleet = start().await;
    let names = ["42", ODD, "locX", "install.7", "ann@example.com"];
    for (number, name) in names.into_iter().enumerate() {
        let location = format!("loc{number}");
        // Each gateway knows that nobody has it.
        for public in publics(&fleet) {
            assert_eq!(
                called(&public, name).await,
                "installation_not_found",
                "{name}"
            );
        }
        connect(&fleet, name, &location).await;
        until_called(&fleet, name, &location).await;
        for member in &fleet.gateways {
            let name = encoded(name);
            let url = format!("{}/v1/installations/{name}/token", member.internal);
            let (status, token) = get(&fleet.client, &url).await;
            assert_eq!(status, 200, "{name}: {token}");
            assert_eq!(token["location_id"], location.as_str(), "{token}");
        }
        let url = format!(
            "{}/api/oauth/status?installation_id={}",
            fleet.haproxy.url,
            encoded(name)
        );
        let (status, seen) = get(&fleet.client, &url).await;
        assert_eq!((status, &seen["externalId"]), (200, &json!(name)), "{seen}");
    }

    connect(&fleet, "42", "moved").await;
    until_called(&fleet, "42", "moved").await;
    let patch = |name: &str, body: Value| {
        let url = format!(
            "{}/v1/installations/{}",
            fleet.brokers[1].internal,
            encoded(name)
        );
        fleet.client.patch(url).json(&body)
    };
    let (status, body) = send(patch(ODD, json!({ "external_id": "42" }))).await;
    assert_eq!(status, 200, "{body}");
    let location = body["locationId"].as_str().unwrap().to_owned();
    until_called(&fleet, "42", &location).await;
    until_called(&fleet, ODD, "installation_not_found").await;
    let (status, body) = send(patch("42", json!({ "external_id": null }))).await;
    assert_eq!((status, &body["externalId"]), (200, &json!(null)));
    until_called(&fleet, "42", "installation_not_found").await;
    let url = format!("{}/v1/installations/locX", fleet.brokers[0].internal);
    let (status, body) = send(fleet.client.delete(url)).await;
    assert_eq!(status, 200, "{body}");
    until_called(&fleet, "locX", "installation_not_found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn location_comes_before_an_external_id_of_the_same_text() {
    let fleet = start().await;
    connect(&fleet, "locB", "locA").await;
    until_called(&fleet, "locB", "locA").await;
    client::install(&fleet.client, &fleet.haproxy.url, "locB").await;
    until_called(&fleet, "locB", "locB").await;
    // A request may say it twice, and also name the location.
    connect(&fleet, "org/7", "locA").await;
    let url = format!("{}/ghl/_sandbox/echo/x", fleet.haproxy.url);
    for (query, expected) in [
        ("installation_id=org%2F7", 200),
        ("installation_id=org%2F7&locationId=locA", 200),
        ("installation_id=org%2F7&locationId=locB", 400),
        ("installation_id=locB", 400),
    ] {
        let call = fleet.client.get(format!("{url}?{query}"));
        let (status, body) = send(call.header("x-installation-id", "org/7")).await;
        assert_eq!(status, expected, "{query}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_names_its_installation_by_external_id() {
    let fleet = start().await;
    connect(&fleet, ODD, "locA").await;
    let backend = backend_key(&fleet.brokers[0].internal, json!({})).await;
    let request = json!({ "installation": ODD, "calls": ["GET /_sandbox/echo/*"] });
    let ask = client::anonymous().post(format!("{}/v1/browser-keys", fleet.gateways[0].internal));
    let (status, made) = send(ask.bearer_auth(&backend).json(&request)).await;
    assert_eq!(status, 201, "{made}");
    let url = format!("{}/ghl/_sandbox/echo/x", fleet.haproxy.url);
    let call = || {
        client::anonymous()
            .get(&url)
            .bearer_auth(made["key"].as_str().unwrap())
    };
    let (status, echo) = send(call().header("x-installation-id", ODD)).await;
    assert_eq!((status, &echo["authClassId"]), (200, &json!("locA")));
    let (status, _) = send(call().header("x-installation-id", "43")).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_takes_links_from_keys_with_the_scope_alone() {
    let fleet = start().await;
    let internal = &fleet.gateways[0].internal;
    let proxy = backend_key(&fleet.brokers[0].internal, json!({ "scopes": ["proxy"] })).await;
    let (status, body) = ask(internal, &proxy, &json!({})).await;
    assert_eq!(
        (status, &body["code"]),
        (403, &json!("api_key_scope_missing"))
    );
    let foreign = fleet.client.post(format!("{internal}/v1/connect-links"));
    let foreign = foreign.header("origin", "http://evil.example");
    let (status, body) = send(foreign.json(&json!({}))).await;
    assert_eq!((status, &body["code"]), (403, &json!("cross_site_request")));
    connect(&fleet, "org/7", "locA").await;
    let path = format!(
        "{internal}/v1/installations/{}/reconnect-link",
        encoded("org/7")
    );
    let (status, made) = send(fleet.client.post(path)).await;
    assert_eq!(status, 201, "{made}");
    let browser = Browser::new(&fleet.haproxy.url);
    let link = made["url"].as_str().unwrap();
    let redirect = browser.consent(link, "locationId=locA").await;
    assert_eq!(browser.open(redirect.leads_to()).await.status, 200);
}
