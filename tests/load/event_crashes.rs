//! Brokers are killed while customers connect and operators revoke. Every change is delivered at least once, in order,
//! and no event reports a change that did not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tests::client;
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::receiver::{Received, Receiver};
use tests::wait::{holds, until};
use tokio::time::sleep;

/// The claim of a queue by a broker that was killed ends after a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// How many customers act at the same time.
const AT_ONCE: usize = 4;
const CONNECTED: &str = "installation.connected";
const RECONNECTED: &str = "installation.reconnected";
const UNINSTALLED: &str = "installation.uninstalled";

/// Consents and revocations; 5000 and 2500 with `EVERGREEN_LONG=1`.
fn counts() -> (usize, usize) {
    let is_long = tests::length(Duration::ZERO) > Duration::ZERO;
    if is_long { (5000, 2500) } else { (800, 400) }
}

/// The seed is printed, and `EVERGREEN_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("EVERGREEN_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok());
    seed.unwrap_or_else(|| rand::rng().random())
}

/// The requests that a test has made for one location.
#[derive(Debug, Default, Clone, Copy)]
struct Asked {
    /// Requests to revoke, also those without an answer.
    revocations: usize,
    is_revoked: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_while_brokers_are_killed() {
    let seed = seed();
    println!("EVERGREEN_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start().await;
    let settings = receiver.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[],
        settings: &settings,
    })
    .await;
    let (consents, revocations) = counts();
    let brokers: Vec<String> = fleet.brokers.iter().map(|it| it.internal.clone()).collect();
    let locations: Vec<String> = (0..consents).map(|it| format!("loc{it:03}")).collect();
    let workers = (0..AT_ONCE).map(|worker| {
        let own = locations.iter().enumerate();
        let own: Vec<_> = own.skip(worker).step_by(AT_ONCE).collect();
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(1 + worker as u64));
        let (client, public, brokers) = (&fleet.client, &fleet.haproxy.url, &brokers);
        async move {
            let mut asked = Vec::new();
            for (number, location) in own {
                connect(client, public, location).await;
                let mut of_it = Asked::default();
                if number < revocations {
                    of_it.revocations = revoke(client, brokers, location, &mut random).await;
                    of_it.is_revoked = true;
                }
                // Some of them come back.
                if number < revocations / 3 {
                    connect(client, public, location).await;
                    of_it.is_revoked = false;
                }
                asked.push((location.clone(), of_it));
            }
            asked
        }
    });
    let work = join_all(workers);
    let kills = kill_until(work, &mut fleet.brokers, &mut random);
    let (asked, kills) = kills.await;
    println!("{kills} brokers were killed");
    assert!(kills >= 5, "{kills} kills");
    let asked: BTreeMap<String, Asked> = asked.into_iter().flatten().collect();

    let events = until_all_are_told(&fleet, &receiver, &asked).await;
    expect_order(&events, &receiver.taken());
    expect_each_has_a_cause(&fleet, &events, &asked).await;
}

/// Kills a broker several times a second, and starts it again, until the work is done. Returns how often.
async fn kill_until<T>(
    work: impl Future<Output = T>,
    brokers: &mut [Member],
    random: &mut StdRng,
) -> (T, usize) {
    let mut work = std::pin::pin!(work);
    let mut kills = 0;
    loop {
        let pause = Duration::from_millis(random.random_range(100..500));
        let victim = random.random_range(0..brokers.len());
        let killed = async {
            sleep(pause).await;
            brokers[victim].kill().await;
            brokers[victim].launch().await;
        };
        let mut killed = std::pin::pin!(killed);
        tokio::select! {
            biased;
            done = &mut work => {
                // It must not stay down.
                killed.await;
                return (done, kills + 1);
            }
            () = &mut killed => kills += 1,
        }
    }
}

/// Connects, as often as that takes.
async fn connect(client: &Client, public: &str, location: &str) {
    until(&format!("{location} to connect"), PATIENCE, || {
        client::try_install(client, public, location)
    })
    .await;
}

/// Revokes at any broker, as often as that takes. Returns the number of requests.
async fn revoke(client: &Client, brokers: &[String], location: &str, random: &mut StdRng) -> usize {
    let mut requests = 0;
    until(&format!("{location} to be revoked"), PATIENCE, || {
        requests += 1;
        let broker = &brokers[random.random_range(0..brokers.len())];
        let url = format!("{broker}/v1/installations/{location}/revoke");
        async move {
            let sent = client.post(url).send().await;
            let status = sent.map(|response| response.status());
            let is_done = status.as_ref().is_ok_and(StatusCode::is_success);
            holds(is_done, status)
        }
    })
    .await;
    requests
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// All events in the list of the store.
async fn all_events(fleet: &Fleet) -> Vec<Value> {
    let mut events = Vec::new();
    let mut after = String::new();
    loop {
        let broker = &fleet.brokers[0].internal;
        let url = format!("{broker}/v1/events?limit=1000{after}");
        let (_, page) = client::get(&fleet.client, &url).await;
        let found = page["events"].as_array().cloned().unwrap_or_default();
        if found.is_empty() {
            return events;
        }
        events.extend(found);
        after = format!("&after={}", text(&page, "/next"));
    }
}

/// Waits until the endpoint has every event of the list, and the last event of each location is its state. Returns the
/// list.
async fn until_all_are_told(
    fleet: &Fleet,
    receiver: &Receiver,
    asked: &BTreeMap<String, Asked>,
) -> Vec<Value> {
    until("every event to arrive", PATIENCE, || async {
        let events = all_events(fleet).await;
        let listed: BTreeSet<String> = events.iter().map(|it| text(it, "/id").to_owned()).collect();
        let taken = receiver.taken();
        let taken: BTreeSet<String> = taken.iter().map(|it| it.id().to_owned()).collect();
        let missing: Vec<_> = listed.symmetric_difference(&taken).take(3).collect();
        holds(missing.is_empty(), &missing)?;
        for (location, asked) in asked {
            let last = changes(&events, location).last().copied().unwrap_or("");
            let is_so = asked.is_revoked == (last == UNINSTALLED) && !last.is_empty();
            holds(is_so, (location, asked, last))?;
        }
        Ok(events)
    })
    .await
}

/// The changes of a location, in the order of the list.
fn changes<'a>(events: &'a [Value], location: &str) -> Vec<&'a str> {
    let of_it = events
        .iter()
        .filter(|it| text(it, "/installation/locationId") == location);
    let kinds = of_it.map(|it| text(it, "/type"));
    kinds
        .filter(|kind| *kind != "installation.updated")
        .collect()
}

/// The first deliveries of each installation are in the order of the list.
fn expect_order(events: &[Value], taken: &[Received]) {
    let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events {
        let of_it = listed.entry(text(event, "/installation/id")).or_default();
        of_it.push(text(event, "/id"));
    }
    let mut delivered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut repetitions = 0;
    for one in taken {
        one.verify();
        let event = one.json();
        let id = text(&event, "/installation/id").to_owned();
        let of_it = delivered.entry(id).or_default();
        if of_it.iter().any(|it| it == one.id()) {
            repetitions += 1;
        } else {
            of_it.push(one.id().to_owned());
        }
    }
    for (installation, expected) in listed {
        assert_eq!(delivered[installation], expected, "{installation}");
    }
    println!("{} events, {repetitions} repetitions", events.len());
}

/// Each event is of a change that happened: consents are grants of GHL, and revocations were asked for.
async fn expect_each_has_a_cause(fleet: &Fleet, events: &[Value], asked: &BTreeMap<String, Asked>) {
    let mut grants: BTreeMap<String, usize> = BTreeMap::new();
    for grant in fleet.sandbox.chains().await {
        *grants
            .entry(text(&grant, "/locationId").to_owned())
            .or_default() += 1;
    }
    for (location, asked) in asked {
        let changes = changes(events, location);
        assert_eq!(changes[0], CONNECTED, "{location}: {changes:?}");
        let count = |wanted: &str| changes.iter().filter(|it| **it == wanted).count();
        assert_eq!(count(CONNECTED), 1, "{location}: {changes:?}");
        let consents = 1 + count(RECONNECTED);
        assert!(consents <= grants[location], "{location}: {changes:?}");
        let ended = count(UNINSTALLED);
        assert!(ended <= asked.revocations, "{location}: {changes:?}");
        assert!(ended >= usize::from(asked.revocations > 0));
        let is_known = |it: &&str| [CONNECTED, RECONNECTED, UNINSTALLED].contains(it);
        assert!(changes.iter().all(is_known), "{changes:?}");
        let twice = changes
            .windows(2)
            .any(|pair| pair[0] == UNINSTALLED && pair[1] == UNINSTALLED);
        assert!(!twice, "{location}: {changes:?}");
        let url = format!("{}/v1/installations/{location}", fleet.brokers[0].internal);
        let (_, shown) = client::get(&fleet.client, &url).await;
        let expected = if asked.is_revoked { "revoked" } else { "valid" };
        assert_eq!(shown["tokenStatus"], expected, "{location}: {shown}");
    }
    for event in events {
        let location = text(event, "/installation/locationId");
        assert!(asked.contains_key(location), "invented: {event}");
    }
}
