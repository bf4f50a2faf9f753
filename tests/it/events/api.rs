//! The list of events for callers that poll, and the commands of operators.

use std::collections::BTreeSet;

use tests::receiver::Mood;

use super::*;

/// Reads pages from the beginning until `is_whole`. Returns all events, in order.
async fn poll(up: &Up, is_whole: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    let mut after = String::new();
    while !is_whole(&events) {
        let url = format!("{}/v1/events?limit=3{after}", up.internal);
        let what = format!("more than {} events", events.len());
        let (found, page) = until(&what, PATIENCE, || async {
            let (status, page) = get(&up.client, &url).await;
            assert_eq!(status, 200, "{page}");
            let found = page["events"].as_array().unwrap().clone();
            holds(!found.is_empty(), &page).map(|()| (found, page))
        })
        .await;
        assert!(found.len() <= 3);
        events.extend(found);
        after = format!("&after={}", page["next"].as_str().unwrap());
    }
    events
}

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_complete_while_events_are_written() {
    let receiver = Receiver::start().await;
    let up = quiet(&receiver, &[]).await;
    let write = async {
        for round in 0..3 {
            for number in 0..15 {
                let location = format!("loc{number}");
                up.install(&location).await;
                if round < 2 {
                    let url = format!("{}/v1/installations/{location}/revoke", up.internal);
                    assert_eq!(send(up.client.post(url)).await.0, 200);
                }
            }
        }
    };
    let is_whole = |events: &[Value]| {
        let changes = events.iter();
        changes
            .filter(|it| it["type"] != "installation.updated")
            .count()
            == 15 * 5
    };
    let ((), polled) = tokio::join!(write, poll(&up, is_whole));
    let unique: BTreeSet<&str> = ids(&polled).into_iter().collect();
    assert_eq!(unique.len(), polled.len(), "no event is listed twice");
    // From the beginning again, all of them in the same order.
    let again = poll(&up, |events| events.len() >= polled.len()).await;
    assert_eq!(ids(&again), ids(&polled));
    // The endpoint got the same ones, each installation's in the order of the list.
    receiver.wait_for_count(polled.len(), PATIENCE).await;
    let taken = receiver.taken();
    for number in 0..15 {
        let location = format!("loc{number}");
        let listed = polled
            .iter()
            .filter(|it| it["installation"]["locationId"] == location.as_str());
        let listed: Vec<_> = listed.map(|it| it["id"].as_str().unwrap()).collect();
        let sent = taken.iter().filter(|it| it.location() == location);
        let sent: Vec<_> = sent.map(Received::id).collect();
        assert_eq!(sent, listed, "{location}");
    }
    // The payload in the list is that of the message.
    let first = taken.iter().find(|it| it.id() == ids(&polled)[0]).unwrap();
    assert_eq!(first.json(), polled[0]);

    for bad in ["x", "1", "1-256"] {
        let url = format!("{}/v1/events?after={bad}", up.internal);
        let (status, refusal) = get(&up.client, &url).await;
        assert_eq!(status, 400, "{refusal}");
    }
    let public = format!("{}/v1/events", up.public);
    assert_ne!(get(&up.client, &public).await.0, 200);
    let anonymous = client::anonymous();
    let url = format!("{}/v1/events", up.internal);
    assert_eq!(get(&anonymous, &url).await.0, 401);
}

/// The output of a command, and its exit code.
async fn run(up: &Up, args: &[&str]) -> (String, String, Option<i32>) {
    let output = up.command(args).run().await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_lists_tests_and_resends() {
    let (crm, ghl) = (Receiver::start().await, Receiver::start().await);
    let settings = Settings::new(&[
        crm.section("events", "crm", "types = [\"installation.*\"]"),
        ghl.section("webhooks", "ghl", "types = [\"ContactCreate\"]"),
    ]);
    let up = Up::start(&[("EVERGREEN_CONFIG", &settings.path())]).await;
    let id = up.install("locA").await;
    let connected = crm.event("installation.connected", "locA", PATIENCE).await;
    let event = connected["id"].as_str().unwrap();

    let (listed, _, _) = run(&up, &["events", "list", "--limit", "20"]).await;
    let line = listed.lines().find(|line| line.contains(event)).unwrap();
    for word in ["installation.connected", &id, "locA", "default"] {
        assert!(line.contains(word), "{line}");
    }
    let (endpoints, _, _) = run(&up, &["events", "endpoints"]).await;
    let line = |name: &str| {
        let line = endpoints.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{endpoints}")).to_owned()
    };
    assert!(line("crm").contains("installation.*"), "{endpoints}");
    assert!(line("ghl").contains("webhooks"), "{endpoints}");
    assert!(!endpoints.contains("/hooks"), "a path may be secret");

    let (sent, _, code) = run(&up, &["events", "resend", "crm", event]).await;
    assert_eq!((sent.trim(), code), (event, Some(0)));
    let twice = |taken: &[Received]| {
        let count = taken.iter().filter(|it| it.id() == event).count();
        (count == 2).then_some(())
    };
    crm.wait_for("the event again", PATIENCE, twice).await;
    let (_, message, code) = run(&up, &["events", "resend", "crm", "evt_unknown"]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("evt_unknown"), "{message}");
    let (_, message, code) = run(&up, &["events", "resend", "nobody", event]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("events endpoints"), "{message}");
    let (_, message, code) = run(&up, &["events", "resend", "ghl", event]).await;
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("webhooks"), "{message}");
    let (_, _, code) = run(&up, &["events", "resend", "crm"]).await;
    assert_eq!(code, Some(2), "neither an id nor --dead");

    let (said, _, code) = run(&up, &["events", "test", "crm"]).await;
    assert_eq!(code, Some(0), "{said}");
    let is_test = |it: &&Received| it.json()["type"] == "evergreen.test";
    let taken = crm.taken();
    let test = taken.iter().find(is_test).unwrap();
    test.verify();
    assert!(said.contains(test.id()), "{said}");
    crm.be(Mood::Refuse(500));
    let (_, message, code) = run(&up, &["events", "test", "crm"]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("500"), "{message}");
    let (_, message, code) = run(&up, &["events", "test", "nobody"]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("has no such endpoint"), "{message}");
    assert!(ghl.all().is_empty());
    let (listed, _, _) = run(&up, &["events", "list"]).await;
    assert!(!listed.contains("evergreen.test"), "a test is no event");
    let (audit, _, _) = run(&up, &["audit", "--action", "event_sent"]).await;
    assert!(audit.contains("crm"), "{audit}");
}
