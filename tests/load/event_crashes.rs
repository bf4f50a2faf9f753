//! Brokers are killed while customers connect, and operators revoke and import. Every change is delivered at least once,
//! in order, and no event reports a change that did not happen.

mod receiver_outage;

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
use tests::rows;
use tests::wait::{holds, until};
use tokio::time::sleep;

/// The claim of a queue by a broker that was killed ends after a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// How many customers act at the same time.
const AT_ONCE: usize = 4;
const CONNECTED: &str = "installation.connected";
const RECONNECTED: &str = "installation.reconnected";
const UNINSTALLED: &str = "installation.uninstalled";
/// The lifetime of imported access tokens.
const HOUR: Duration = Duration::from_secs(3600);
/// Rows of a request.
const BATCH: usize = 10;

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
    /// Whether it was imported, so that GHL has seen no consent.
    is_imported: bool,
    /// Requests to revoke, also those without an answer.
    revocations: usize,
    is_revoked: bool,
}

/// The requests for each location.
type AllAsked = BTreeMap<String, Asked>;

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_while_brokers_are_killed() {
    let seed = seed();
    println!("EVERGREEN_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start().await;
    let mut fleet = start(&receiver, 3).await;
    let (consents, revocations) = counts();
    let brokers: Vec<String> = fleet.brokers.iter().map(|it| it.internal.clone()).collect();
    let locations: Vec<String> = (0..consents).map(|it| format!("loc{it:03}")).collect();
    let rows: Vec<String> = (0..consents).map(|it| format!("row{it:03}")).collect();
    let batches: Vec<_> = rows.chunks(BATCH).collect();
    let workers = (0..AT_ONCE).map(|worker| {
        let own = locations.iter().enumerate();
        let own: Vec<_> = own.skip(worker).step_by(AT_ONCE).collect();
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(1 + worker as u64));
        let (client, public, brokers) = (&fleet.client, &fleet.haproxy.url, &brokers);
        let batches = &batches;
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
                if let Some(batch) = batches.get(number / BATCH).filter(|_| number % BATCH == 0) {
                    import(client, brokers, batch, &mut random).await;
                    asked.extend(batch.iter().map(|row| (row.clone(), IMPORTED)));
                }
            }
            asked
        }
    });
    let work = join_all(workers);
    let kills = kill_until(work, &mut fleet.brokers, &mut random);
    let (asked, kills) = kills.await;
    println!("{kills} brokers were killed");
    assert!(kills >= 5, "{kills} kills");
    let asked: AllAsked = asked.into_iter().flatten().collect();
    assert_eq!(asked.len(), locations.len() + rows.len());

    let events = until_all_are_told(&fleet, &receiver, &asked, PATIENCE).await;
    expect_order(&events, &receiver.taken());
    expect_each_has_a_cause(&fleet, &events, &asked).await;
}

/// Brokers that send their events to this receiver.
async fn start(receiver: &Receiver, brokers: usize) -> Fleet {
    let settings = receiver.settings();
    let settings = settings.iter();
    let settings: Vec<_> = settings
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    Fleet::start(&FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox: &[],
        settings: &settings,
    })
    .await
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

const IMPORTED: Asked = Asked {
    is_imported: true,
    revocations: 0,
    is_revoked: false,
};

/// Imports a row for each location at any broker, as often as that takes.
async fn import(client: &Client, brokers: &[String], locations: &[String], random: &mut StdRng) {
    let rows = rows::minted(locations.iter().cloned(), HOUR);
    until("rows to be imported", PATIENCE, || {
        let broker = &brokers[random.random_range(0..brokers.len())];
        let sent = client.post(format!("{broker}/v1/installations"));
        let sent = sent.json(&rows).send();
        async move {
            let response = sent.await.map_err(|error| error.to_string())?;
            let status = response.status();
            let results = client::body(response).await;
            let is_done = status.is_success() && results["refused"] == 0;
            holds(is_done, (status, results))
        }
    })
    .await;
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
    asked: &AllAsked,
    patience: Duration,
) -> Vec<Value> {
    until("every event to arrive", patience, || async {
        let events = all_events(fleet).await;
        let listed: BTreeSet<String> = events.iter().map(|it| text(it, "/id").to_owned()).collect();
        let taken = receiver.taken();
        let taken: BTreeSet<String> = taken.iter().map(|it| it.id().to_owned()).collect();
        let missing: Vec<_> = listed.symmetric_difference(&taken).take(3).collect();
        holds(missing.is_empty(), &missing)?;
        let changes = changes(&events);
        for (location, asked) in asked {
            let of_it = changes.get(location.as_str());
            let last = of_it.and_then(|of_it| of_it.last()).copied().unwrap_or("");
            let is_so = asked.is_revoked == (last == UNINSTALLED) && !last.is_empty();
            holds(is_so, (location, asked, last))?;
        }
        Ok(events)
    })
    .await
}

/// The changes of each location, in the order of the list.
fn changes(events: &[Value]) -> BTreeMap<&str, Vec<&str>> {
    let mut changes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events {
        let kind = text(event, "/type");
        if kind != "installation.updated" {
            let location = text(event, "/installation/locationId");
            changes.entry(location).or_default().push(kind);
        }
    }
    changes
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

/// Each event is of a change that happened: consents are grants of GHL, and revocations and imports were asked for.
async fn expect_each_has_a_cause(fleet: &Fleet, events: &[Value], asked: &AllAsked) {
    let mut grants: BTreeMap<String, usize> = BTreeMap::new();
    for grant in fleet.sandbox.chains().await {
        let location = text(&grant, "/locationId").to_owned();
        *grants.entry(location).or_default() += 1;
    }
    let all = changes(events);
    for (location, asked) in asked {
        let granted = grants.get(location).copied().unwrap_or(0);
        expect_causes(location, &all[location.as_str()], *asked, granted);
        let url = format!("{}/v1/installations/{location}", fleet.brokers[0].internal);
        let (_, shown) = client::get(&fleet.client, &url).await;
        let expected = if asked.is_revoked { "revoked" } else { "valid" };
        assert_eq!(shown["tokenStatus"], expected, "{location}: {shown}");
    }
    for location in all.keys() {
        assert!(asked.contains_key(*location), "invented: {location}");
    }
}

/// Likewise, for the changes of one location. `grants`: of GHL.
fn expect_causes(location: &str, changes: &[&str], asked: Asked, grants: usize) {
    let at = format!("{location}: {changes:?}");
    if asked.is_imported {
        assert_eq!(changes, [CONNECTED], "{at}");
        return;
    }
    assert_eq!(changes[0], CONNECTED, "{at}");
    let count = |wanted: &str| changes.iter().filter(|it| **it == wanted).count();
    assert_eq!(count(CONNECTED), 1, "{at}");
    assert!(count(RECONNECTED) < grants, "{at}");
    let ended = count(UNINSTALLED);
    assert!(ended <= asked.revocations, "{at}");
    assert!(ended >= usize::from(asked.revocations > 0), "{at}");
    let is_known = |it: &&str| [CONNECTED, RECONNECTED, UNINSTALLED].contains(it);
    assert!(changes.iter().all(is_known), "{at}");
    let twice = changes
        .windows(2)
        .any(|pair| pair[0] == UNINSTALLED && pair[1] == UNINSTALLED);
    assert!(!twice, "{at}");
}
