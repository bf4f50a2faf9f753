//! Repeated faults of one installation within one grace of GHL.

use super::*;

/// With this timeout a lease lasts 27 s. Waiting for it twice would exceed GHL's grace.
const LONGEST_CALL: (&str, &str) = ("EVERGREEN_TOKEN_TIMEOUT", "18s");

#[tokio::test(flavor = "multi_thread")]
async fn restarted_broker_does_not_wait_for_its_own_lease() {
    let servers = Servers::start().await;
    let sandbox = Sandbox::start(&[("FIRST_TOKEN_LIFETIME", "3s")]).await;
    let scratch = Scratch::new();
    let start = servers.broker(0, &sandbox, scratch.join("faulted"));
    let start = start.env(LONGEST_CALL.0, LONGEST_CALL.1);
    let mut faulted = Member::start(start.env("TEST_CRASH_POINT", "sent kill")).await;
    // Before the consent, because its token is refreshed at once.
    let slow = json!([{
        "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 1500, "next": 2,
    }]);
    sandbox.faults(slow).await;
    let public = format!("http://{}", faulted.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    for is_last in [false, true] {
        until_killed(&mut faulted).await;
        if is_last {
            faulted.unset("TEST_CRASH_POINT");
        }
        faulted.spawn();
    }
    let (reader, id) = (servers.reader(0), id.parse::<InstallationId>().unwrap());
    until("the response to be in the store", PATIENCE, || async {
        let record = record_of(&reader, &id).await?;
        holds(record == ExpectedOutcome::Replayed.record(), record)
    })
    .await;
    assert_eq!(sandbox.count("spent_outside_grace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_lease_holder_does_not_delay_lost_response_recovery() {
    let servers = Servers::start().await;
    let sandbox = Sandbox::start(&[("FIRST_TOKEN_LIFETIME", "3s")]).await;
    let scratch = Scratch::new();
    let start = |name| {
        let start = servers.broker(0, &sandbox, scratch.join(name));
        start.env(LONGEST_CALL.0, LONGEST_CALL.1)
    };
    let with_crash_point = start("faulted").env("TEST_CRASH_POINT", "answered kill");
    let mut faulted = Member::start(with_crash_point).await;
    let public = format!("http://{}", faulted.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    until_killed(&mut faulted).await;
    faulted.set([("TEST_CRASH_POINT", "leased stop".to_owned())]);
    faulted.spawn();
    until_stopped(&faulted).await;

    let _another = Member::start(start("another")).await;
    let (reader, id) = (servers.reader(0), id.parse::<InstallationId>().unwrap());
    let long_before_the_lease_ends = Duration::from_secs(18);
    until("the commit", long_before_the_lease_ends, || async {
        let record = record_of(&reader, &id).await?;
        holds(record == ExpectedOutcome::Replayed.record(), record)
    })
    .await;
    let faulted = faulted.program.take().unwrap();
    faulted.signal(18);
    let (status, log) = faulted.terminate(PATIENCE).await;
    assert_eq!(status, Some(0), "{log:#?}");
    assert_eq!(sandbox.count("replays_in_grace").await, 1);
    assert_eq!(sandbox.count("spent_outside_grace").await, 0);
}
