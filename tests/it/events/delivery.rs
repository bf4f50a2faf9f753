//! Endpoints that are down, refuse or hang, and several brokers.

use store::Timestamp;
use tests::receiver::Mood;

use super::*;

fn locations(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("loc{number:03}")).collect()
}

/// Connects, revokes and connects again each of the locations.
async fn three_changes(up: &Up, locations: &[String]) {
    for location in locations {
        up.install(location).await;
    }
    for location in locations {
        let url = format!("{}/v1/installations/{location}/revoke", up.internal);
        assert_eq!(send(up.client.post(url)).await.0, 200);
    }
    for location in locations {
        up.install(location).await;
    }
}

const THREE: [&str; 3] = [
    "installation.connected",
    "installation.uninstalled",
    "installation.reconnected",
];

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_was_down_gets_everything_in_order() {
    let mut receiver = Receiver::down();
    let up = up_with(&receiver, &[]).await;
    let locations = locations(8);
    three_changes(&up, &locations).await;
    up.program
        .wait_for_line(&["the endpoint takes nothing"], PATIENCE)
        .await;
    receiver.be(Mood::Refuse(410));
    receiver.come_back().await;
    until("a refused message", PATIENCE, || async {
        holds(!receiver.all().is_empty(), "none")
    })
    .await;
    receiver.be(Mood::Take);
    until_changes(&receiver, &locations, &THREE).await;
    receiver.taken().iter().for_each(Received::verify);

    receiver.go_down().await;
    let more = ["later".to_owned()];
    three_changes(&up, &more).await;
    up.program
        .wait_for_line(&["a message was not delivered", "attempts=1"], PATIENCE)
        .await;
    receiver.come_back().await;
    until_changes(&receiver, &more, &THREE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_messages_are_sent_as_soon_as_one_was_taken() {
    let mut receiver = Receiver::down();
    let up = up_with(&receiver, &[]).await;
    let location = ["locA".to_owned()];
    three_changes(&up, &location).await;
    // After 5 s and 30 s. The next pause of this message is 2 minutes.
    up.program
        .wait_for_line(&["a message was not delivered", "attempts=3"], PATIENCE)
        .await;
    // Failures of others close the gate.
    for number in 0..8 {
        up.install(&format!("other{number}")).await;
    }
    up.program
        .wait_for_line(&["the endpoint takes nothing"], PATIENCE)
        .await;
    receiver.come_back().await;
    let soon = Duration::from_secs(40);
    receiver
        .event("installation.reconnected", "locA", soon)
        .await;
    until_changes(&receiver, &location, &THREE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_is_a_failure_and_is_not_followed() {
    let receiver = Receiver::start().await;
    receiver.be(Mood::Refuse(302));
    let up = up_with(&receiver, &[]).await;
    up.install("locA").await;
    up.program
        .wait_for_line(&["a message was not delivered", "302"], PATIENCE)
        .await;
    receiver.be(Mood::Take);
    receiver
        .event("installation.connected", "locA", PATIENCE)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_endpoint_delays_no_other() {
    let (hanging, prompt) = (Receiver::start().await, Receiver::start().await);
    hanging.be(Mood::Hang);
    let settings = Settings::new(&[
        hanging.section("events", "hanging", ""),
        prompt.section("events", "prompt", ""),
    ]);
    let up = Up::start(&[("EVERGREEN_CONFIG", &settings.path())]).await;
    // More than are delivered to one endpoint at once.
    let locations = locations(40);
    let mut connected = Vec::new();
    for location in &locations {
        up.install(location).await;
        connected.push((location.clone(), Timestamp::of_this_machine()));
    }
    until_changes(&prompt, &locations, &["installation.connected"]).await;
    // An attempt that hangs ends after 15 s.
    let soon = Duration::from_secs(10);
    let taken = prompt.taken();
    for (location, connected_at) in connected {
        let first = taken.iter().find(|it| it.location() == location).unwrap();
        let delay = first.arrived_at.since(connected_at);
        assert!(delay < soon, "{location} arrived after {delay:?}");
    }
    assert!(!hanging.all().is_empty());
    assert!(hanging.taken().is_empty());
    hanging.be(Mood::Take);
    until_changes(&hanging, &locations, &["installation.connected"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_share_the_work_and_repeat_nothing() {
    let receiver = Receiver::start().await;
    let fleet = fleet_with(&receiver, 2, &[]).await;
    let count = 40;
    let ids = fleet.install(count).await;
    for id in &ids[..count / 2] {
        let url = format!("{}/v1/installations/{id}/revoke", fleet.brokers[1].internal);
        assert_eq!(send(fleet.client.post(url)).await.0, 200);
    }
    let locations = locations(count);
    until_changes(&receiver, &locations[count / 2..], &THREE[..1]).await;
    until_changes(&receiver, &locations[..count / 2], &THREE[..2]).await;
    let taken = receiver.taken();
    taken.iter().for_each(Received::verify);
    expect_no_repetition(&taken);
    let delivered = "evergreen_deliveries_total";
    for broker in &fleet.brokers {
        let (_, metrics) = get(&fleet.client, &format!("{}/metrics", broker.internal)).await;
        let metrics = metrics.as_str().unwrap_or_default();
        let has_delivered = metrics
            .lines()
            .any(|line| line.starts_with(delivered) && line.contains("outcome=\"delivered\""));
        assert!(has_delivered, "each broker delivered some: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_delay_no_others() {
    let receiver = Receiver::start().await;
    receiver.refuse_locations("bad", 404);
    let up = quiet(&receiver, &[]).await;
    // More than close the gate of an endpoint that is down.
    for number in 0..8 {
        up.install(&format!("bad{number}")).await;
    }
    until("all to be refused", PATIENCE, || async {
        let refused = receiver.all().len();
        holds(refused >= 8, refused)
    })
    .await;
    let good = ["good".to_owned()];
    up.install("good").await;
    // Sooner than a probe of a closed gate.
    let soon = Duration::from_secs(4);
    receiver.event(THREE[0], "good", soon).await;
    let url = format!("{}/v1/event-endpoints", up.internal);
    let (_, seen) = get(&up.client, &url).await;
    let endpoint = &seen["endpoints"][0];
    assert_eq!(endpoint["nextProbeIn"], Value::Null, "{seen}");
    assert_eq!(endpoint["failing"], 8, "{seen}");
    // The same messages arrive once they are taken.
    receiver.refuse_locations("none", 404);
    let bad: Vec<String> = (0..8).map(|number| format!("bad{number}")).collect();
    until_changes(&receiver, &bad, &THREE[..1]).await;
    until_changes(&receiver, &good, &THREE[..1]).await;
    expect_no_repetition(&receiver.taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_deliver_everything_once_and_in_order_after_the_endpoint_is_back() {
    let mut receiver = Receiver::down();
    let fleet = fleet_with(&receiver, 2, &[]).await;
    let count = 24;
    let ids = fleet.install(count).await;
    for (number, id) in ids.iter().enumerate() {
        let broker = &fleet.brokers[number % 2];
        let url = format!("{}/v1/installations/{id}/revoke", broker.internal);
        assert_eq!(send(fleet.client.post(url)).await.0, 200);
    }
    // Both find the endpoint down.
    for broker in &fleet.brokers {
        let url = format!("{}/v1/event-endpoints", broker.internal);
        until("a closed gate", PATIENCE, || async {
            let (_, seen) = get(&fleet.client, &url).await;
            let is_down = seen["endpoints"][0]["nextProbeIn"].is_u64();
            holds(is_down, &seen)
        })
        .await;
    }
    receiver.come_back().await;
    until_changes(&receiver, &locations(count), &THREE[..2]).await;
    let taken = receiver.taken();
    taken.iter().for_each(Received::verify);
    expect_no_repetition(&taken);
}
