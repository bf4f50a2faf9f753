//! A receiver that is down for a long time.

use std::collections::BTreeMap;

use tokio::time::{Instant, interval};

use super::*;

/// How long the receiver is down, unless it is ten minutes with `EVERGREEN_LONG=1`.
const SHORT: Duration = Duration::from_secs(20);
/// Customers who connect meanwhile.
const CUSTOMERS: u32 = 300;
/// A gate opens at most 2 minutes after the receiver is back. The rest is for the deliveries.
const UNTIL_DELIVERED: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_receiver_is_down() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut receiver = Receiver::start().await;
    let fleet = start(&receiver, 2).await;
    let brokers: Vec<String> = fleet.brokers.iter().map(|it| it.internal.clone()).collect();
    connect(&fleet.client, &fleet.haproxy.url, "first").await;
    receiver.event(CONNECTED, "first", PATIENCE).await;
    receiver.go_down().await;
    let taken = receiver.taken().len();

    let outage = tests::length(SHORT);
    let ends_at = Instant::now() + outage;
    let mut asked = BTreeMap::from([("first".to_owned(), Asked::default())]);
    // The customers come in the whole time.
    let mut next = interval(outage / CUSTOMERS);
    for number in 0..CUSTOMERS {
        next.tick().await;
        let location = format!("loc{number:03}");
        connect(&fleet.client, &fleet.haproxy.url, &location).await;
        let mut of_it = Asked::default();
        if number % 2 == 0 {
            of_it.revocations = revoke(&fleet.client, &brokers, &location, &mut random).await;
            of_it.is_revoked = true;
        }
        if number % 4 == 0 {
            connect(&fleet.client, &fleet.haproxy.url, &location).await;
            of_it.is_revoked = false;
        }
        asked.insert(location, of_it);
    }
    assert!(
        Instant::now() + outage / CUSTOMERS >= ends_at,
        "it was down for too short"
    );
    let log = fleet.broker_logs();
    assert!(
        log.iter()
            .any(|line| line.contains("the endpoint takes nothing"))
    );
    assert_eq!(receiver.taken().len(), taken);

    receiver.come_back().await;
    let events = until_all_are_told(&fleet, &receiver, &asked, UNTIL_DELIVERED).await;
    assert!(events.len() > asked.len());
    expect_order(&events, &receiver.taken());
    expect_each_has_a_cause(&fleet, &events, &asked).await;
}
