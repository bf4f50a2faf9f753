//! Many installations: all are scheduled, none is refreshed early, and after an outage the soonest expiry comes
//! first.

use std::time::Duration;

use serde_json::Value;
use tests::client;
use tests::seed::SeedError;
use tests::testbed::Testbed;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The first refresh of an installation, as the sandbox saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Refreshed {
    at_ms: u64,
    /// Seeded installations are numbered from 1 in the order in which they fall due.
    number: usize,
    /// The age of the token.
    age_ms: u64,
}

/// All first refreshes so far, ordered by time.
async fn refreshed(testbed: &Testbed) -> Vec<Refreshed> {
    let read = |chain: &Value| {
        let first = &chain["tokens"][0];
        let at_ms = first["spent_ms"].as_u64()?;
        let location = chain["locationId"].as_str()?;
        Some(Refreshed {
            at_ms,
            number: location.strip_prefix("bench")?.parse().ok()?,
            age_ms: at_ms - first["issued_ms"].as_u64()?,
        })
    };
    let mut all: Vec<_> = testbed
        .sandbox
        .chains()
        .await
        .iter()
        .filter_map(read)
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_is_refreshed_soonest_expiry_first_within_the_rate() {
    const INSTALLATIONS: usize = 300;
    const RATE: u64 = 50;
    /// Concurrent claims and refreshes may overtake each other by this much.
    const SLACK: usize = 40;
    let testbed = Testbed::start(0, "24h").await;
    testbed.seed(INSTALLATIONS as u64, "24h").await;
    let settings = [("EVERGREEN_REFRESH_RATE", RATE.to_string())];
    let _broker = testbed.broker("catches-up", &settings).await;
    until("all to be refreshed", PATIENCE, || async {
        let spent = testbed.sandbox.count("refresh_tokens_spent").await;
        holds(spent == INSTALLATIONS as u64, spent)
    })
    .await;

    let refreshed = refreshed(&testbed).await;
    let took = Duration::from_millis(refreshed[INSTALLATIONS - 1].at_ms - refreshed[0].at_ms);
    let fastest = Duration::from_secs(1) * (INSTALLATIONS as u32 - 1) / (RATE as u32 * 12 / 10);
    assert!(
        took >= fastest,
        "{INSTALLATIONS} at {RATE} per second in {took:?}"
    );
    for (place, one) in (1..).zip(&refreshed) {
        assert!(
            one.number.abs_diff(place) <= SLACK,
            "{one:?} at place {place}"
        );
    }
    assert_eq!(testbed.sandbox.count("spent_outside_grace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_fleet_is_scheduled_and_no_token_is_refreshed_early() {
    const INSTALLATIONS: usize = 2000;
    // The lead is an eighth of the lifetime, plus a jitter of up to a tenth of the lead. One installation falls due
    // every three seconds.
    let testbed = Testbed::start(0, "2h").await;
    let youngest_ms = Duration::from_secs(7200 - 900 - 90).as_millis() as u64;
    testbed.seed(INSTALLATIONS as u64, "0s").await;
    let broker = testbed.broker("on-schedule", &[]).await;
    until("three to be refreshed", PATIENCE, || async {
        let spent = testbed.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 3, spent)
    })
    .await;

    let refreshed = refreshed(&testbed).await;
    for (number, one) in (1..).zip(&refreshed) {
        assert_eq!(one.number, number, "{refreshed:?}");
        assert!(one.age_ms >= youngest_ms, "early: {one:?}");
    }
    let mut scheduled = 0;
    let mut page = "/v1/installations?limit=500".to_owned();
    loop {
        let url = format!("{}{page}", broker.internal);
        let (_, response) = client::get(&client::new(), &url).await;
        let installations = response["installations"].as_array().unwrap();
        let has_time = |one: &&Value| one["nextRefreshAt"].is_string();
        scheduled += installations.iter().filter(has_time).count();
        match response["next"].as_str() {
            Some(next) => page = format!("/v1/installations?limit=500&after={next}"),
            None => break,
        }
    }
    assert_eq!(scheduled, INSTALLATIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_refuses_a_non_empty_store() {
    let testbed = Testbed::start(0, "24h").await;
    testbed.seed(20, "0s").await;
    let refused = testbed.try_seed(5, "0s", false).await;
    assert!(
        matches!(refused, Err(SeedError::NotEmpty(20))),
        "{refused:?}"
    );

    testbed
        .try_seed(5, "0s", true)
        .await
        .expect("more are added");
    assert_eq!(testbed.writer().stats().await.unwrap().refreshing, 25);
}
