//! Messages that an endpoint did not take for 3 days.

use tests::wall_clock::WallClock;

use super::*;

async fn printed(up: &Up, args: &[&str]) -> String {
    let output = up.command(args).run().await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_is_given_up_after_three_days_and_can_be_sent_again() {
    let clock = WallClock::wrong_by("-4d");
    let settings = clock.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let mut receiver = Receiver::down();
    let mut up = quiet(&receiver, &settings).await;
    up.install("locA").await;
    up.install("locB").await;
    up.program
        .wait_for_line(&["a message was not delivered", "attempts=1"], PATIENCE)
        .await;
    let listed = printed(&up, &["events", "list", "--dead"]).await;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    // Four days later.
    clock.set("+0");
    up.restart().await;
    let connected = "installation.connected";
    until("both to be given up", PATIENCE, || async {
        let listed = printed(&up, &["events", "list", "--dead"]).await;
        let dead = listed.lines().filter(|line| line.contains(connected));
        holds(dead.count() == 2, listed)
    })
    .await;
    let url = format!("{}/v1/dead-letters", up.internal);
    let (_, letters) = get(&up.client, &url).await;
    for letter in letters["deadLetters"].as_array().unwrap() {
        assert_eq!(letter["endpoint"], "default", "{letter}");
        assert!(letter["attempts"].as_u64().unwrap() >= 1, "{letter}");
        assert!(letter["error"].is_string(), "{letter}");
    }
    // Sent again while the endpoint is still down, they wait for it as new ones do.
    let count = letters["deadLetters"].as_array().unwrap().len();
    let sent = printed(&up, &["events", "resend", "default", "--dead"]).await;
    assert_eq!(sent.lines().count(), count, "{sent}");
    until("another attempt", PATIENCE, || async {
        let url = format!("{}/v1/event-endpoints", up.internal);
        let (_, seen) = get(&up.client, &url).await;
        let endpoint = &seen["endpoints"][0];
        let is_tried = endpoint["failing"].as_u64() >= Some(1) && endpoint["waiting"] == 2;
        holds(is_tried, &seen)
    })
    .await;
    let (_, later) = get(&up.client, &url).await;
    let later = later["deadLetters"].as_array().unwrap().len();
    assert_eq!(later, 0, "they have 3 days again");
    receiver.come_back().await;
    for location in ["locA", "locB"] {
        receiver.event(connected, location, PATIENCE).await;
    }
}
