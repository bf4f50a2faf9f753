//! One process after the other is replaced by that of another version, while calls and refreshes go on.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::client::{get, send};
use tests::receiver::Receiver;
use tests::wait::{holds, until};

use crate::Version::{self, Current, Previous};
use crate::deployment::{Deployment, PATIENCE};

const TAG: &str = "größe 2";

/// The external id of a location.
fn external_id(location: &str) -> String {
    format!("org/{location}")
}

/// Replaces the brokers. After each, customers connect at it, and consents begin at one broker and end at the other.
async fn roll_brokers(deployment: &mut Deployment, version: Version, again: [&str; 4]) {
    for (number, again) in again.chunks(2).enumerate() {
        deployment.replace_broker(number, version).await;
        deployment.expect_service().await;
        for gateway in 0..2 {
            let location = format!("locNew{version:?}{number}{gateway}");
            deployment.connect(gateway, &location).await;
        }
        deployment.connect_again(0, 1, again[0]).await;
        deployment.connect_again(1, 0, again[1]).await;
        deployment.until_all_refreshed().await;
        deployment.expect_service().await;
    }
}

async fn roll_gateways(deployment: &mut Deployment, version: Version) {
    for number in 0..3 {
        deployment.replace_gateway(number, version).await;
        deployment.expect_service().await;
    }
    deployment.until_all_refreshed().await;
}

/// Gives external ids and tags to these locations.
async fn name_customers(deployment: &Deployment, locations: &[&str]) {
    let broker = &deployment.fleet.brokers[0].internal;
    for location in locations {
        let url = format!("{broker}/v1/installations/{location}");
        let change = json!({ "external_id": external_id(location), "tags": [TAG] });
        let (status, body) = send(deployment.fleet.client.patch(url).json(&change)).await;
        assert_eq!(status, 200, "{body}");
    }
}

/// These locations have their external ids and tags, are found by them, and gateways of this version know the ids.
async fn expect_customers(deployment: &Deployment, locations: &[&str]) {
    let client = &deployment.fleet.client;
    let id_of = |location: &str| {
        let mut owners = deployment.owners.iter();
        owners
            .find(|(_, owner)| *owner == location)
            .unwrap()
            .0
            .clone()
    };
    for number in 0..2 {
        let shown = deployment.shown_by(number).await;
        for location in locations {
            let one = &shown[&id_of(location)];
            let held = (&one["externalId"], &one["tags"]);
            assert_eq!(
                held,
                (&json!(external_id(location)), &json!([TAG])),
                "{one}"
            );
        }
        let internal = &deployment.fleet.brokers[number].internal;
        let url = reqwest::Url::parse_with_params(
            &format!("{internal}/v1/installations"),
            [("tag", TAG), ("limit", "1000")],
        );
        let (_, tagged) = get(client, url.unwrap().as_str()).await;
        let tagged = tagged["installations"].as_array().unwrap().iter();
        let mut tagged: Vec<&str> = tagged.filter_map(|it| it["locationId"].as_str()).collect();
        tagged.sort_unstable();
        assert_eq!(tagged, locations);
    }
    for gateway in 0..3 {
        for location in locations {
            let id = external_id(location);
            let what = format!("{id} at gateway {gateway}");
            until(&what, PATIENCE, || async {
                let called = deployment.called(client, gateway, &id).await;
                holds(called == **location, called)
            })
            .await;
        }
    }
}

/// The events that a broker lists for polling: their types, by their ids.
async fn listed_events(deployment: &Deployment) -> BTreeMap<String, String> {
    let broker = &deployment.fleet.brokers[0].internal;
    let url = format!("{broker}/v1/events?limit=1000");
    let (status, listed) = get(&deployment.fleet.client, &url).await;
    assert_eq!(status, 200, "{listed}");
    let events = listed["events"].as_array().unwrap().iter();
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events
        .map(|event| (text(event, "id"), text(event, "type")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/upgrade builds the previous version and runs this"]
async fn previous_version_is_updated_under_load() {
    let mut deployment = Deployment::start(Previous, Receiver::start().await).await;
    let calls = deployment.calls();
    deployment.until_all_refreshed().await;
    deployment.expect_service().await;

    // The users of Redis come first, then the brokers, then the gateways. A broker that comes too early is not ready.
    deployment.start_broker_without_rights(0).await;
    deployment.load_users().await;
    let again = ["loc000", "loc001", "loc002", "loc003"];
    roll_brokers(&mut deployment, Current, again).await;
    roll_gateways(&mut deployment, Current).await;

    // Records of the previous version take what is new.
    let customers = ["loc000", "loc004", "locNewCurrent00"];
    name_customers(&deployment, &customers).await;
    deployment.until_all_refreshed().await;
    expect_customers(&deployment, &customers).await;
    calls.expect_success().await;
    deployment.until_all_told().await;
    assert_eq!(deployment.expect_no_token_lost().await, 0, "replays");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/upgrade builds the previous version and runs this"]
async fn previous_version_is_brought_back_under_load_and_replaced_again() {
    // Nobody takes the events for now.
    let mut deployment = Deployment::start(Current, Receiver::down()).await;
    let customers = ["loc000", "loc004", "loc005"];
    name_customers(&deployment, &customers).await;
    let events = listed_events(&deployment).await;
    let calls = deployment.calls();
    deployment.until_all_refreshed().await;
    deployment.expect_service().await;

    roll_gateways(&mut deployment, Previous).await;
    let again = ["loc000", "loc001", "loc002", "loc003"];
    roll_brokers(&mut deployment, Previous, again).await;
    // A consent that this version knows nothing of keeps the external id.
    deployment.connect_again(0, 1, "loc004").await;
    deployment.until_all_refreshed().await;

    let again = ["loc000", "loc001", "loc006", "loc007"];
    roll_brokers(&mut deployment, Current, again).await;
    roll_gateways(&mut deployment, Current).await;
    expect_customers(&deployment, &customers).await;
    calls.expect_success().await;

    let listed = listed_events(&deployment).await;
    for (id, kind) in &events {
        assert_eq!(listed.get(id), Some(kind), "{id} is lost");
    }
    deployment.receiver.come_back().await;
    deployment.until_all_told().await;
    until("the events of the beginning", PATIENCE, || async {
        let taken = deployment.receiver.taken();
        let missing = events
            .keys()
            .find(|id| !taken.iter().any(|it| it.id() == **id));
        holds(missing.is_none(), missing)
    })
    .await;
    assert_eq!(deployment.expect_no_token_lost().await, 0, "replays");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/upgrade builds the previous version and runs this"]
async fn broker_that_dies_is_replaced_by_one_of_the_other_version() {
    let mut deployment = Deployment::start(Previous, Receiver::start().await).await;
    deployment.load_users().await;
    deployment.replace_broker(0, Current).await;
    // One gateway of the newer version asks the broker of the previous version.
    deployment.replace_gateway(1, Current).await;
    deployment.replace_gateway(2, Current).await;
    let calls = deployment.calls();
    deployment.expect_service().await;

    // So that a broker can be killed between GHL's answer and the commit.
    let slow = json!([{ "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 1000, "share": 1.0 }]);
    deployment.fleet.sandbox.faults(slow).await;
    for (number, version) in [
        (0, Previous),
        (1, Current),
        (0, Current),
        (1, Previous),
        (1, Current),
    ] {
        deployment.until_refresh_in_flight(number).await;
        deployment.crash_broker(number, version).await;
        deployment.until_all_refreshed().await;
    }
    deployment.fleet.sandbox.faults(json!([])).await;
    deployment.expect_service().await;
    calls.expect_success().await;
    deployment.until_all_told().await;
    let replays = deployment.expect_no_token_lost().await;
    assert!(replays > 0, "no broker died with a refresh in flight");
}
