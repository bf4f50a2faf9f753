//! The rotation of both rings, from the new key to the removal of the old one.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::Value;
use store::freshness::Lead;
use store_writer::{Rings, Store};
use tests::client::send;
use tests::seed::{ACCESS_TOKEN_BYTES, Seed};
use tests::wait::{holds, until};

use super::*;

const INSTALLATIONS: u64 = 1000;
/// Some refreshes fall due every second.
const LIFETIME: &str = "3m";

/// Longer than a broker waits for a dead one, and for others that seal with the old key.
const ROTATION: Duration = Duration::from_secs(180);

impl Site {
    async fn seed(&self, keys: &Keys) -> Vec<String> {
        let ring = |text: &str| Arc::new(KeyRing::parse(&text.into()).unwrap());
        let rings = Rings {
            access: ring(&keys.access),
            refresh: ring(&keys.refresh),
        };
        let url = self.redis.url().into();
        let seed = Seed {
            installations: INSTALLATIONS,
            lifetime: humantime::parse_duration(LIFETIME).unwrap(),
            overdue: Duration::ZERO,
            access_token_bytes: ACCESS_TOKEN_BYTES,
            add: false,
            lead: Lead::Auto,
        };
        let sandbox = sandbox::Config::default();
        seed.fill(&url, rings.clone(), &sandbox).await.unwrap();
        let store = Store::redis(&url, rings, Lead::Auto).unwrap();
        let listed = store.writer.list(None, usize::MAX).await.unwrap();
        listed.iter().map(|one| one.id().to_string()).collect()
    }

    /// `evergreen seal …`, through this broker.
    fn seal(&self, broker: &Member, args: &[&str]) -> Start {
        Start::evergreen(&["seal"])
            .args(args)
            .env("EVERGREEN_ADMIN_URL", &broker.internal)
            .env("EVERGREEN_ADMIN_KEY", client::KEY)
    }

    async fn expect_every_token(&self, gateway: &Member, ids: &[String]) {
        let served = stream::iter(ids)
            .map(async |id| (id, self.token(gateway, id).await))
            .buffer_unordered(32);
        let failed: Vec<_> = served
            .filter(|(_, (status, _))| std::future::ready(*status != 200))
            .collect()
            .await;
        assert!(failed.is_empty(), "{failed:?}");
    }
}

async fn restart(member: &mut Member, settings: impl IntoIterator<Item = (&'static str, String)>) {
    member.kill().await;
    member.set(settings);
    member.launch().await;
}

fn both(keys: &Keys) -> [(&'static str, String); 2] {
    let Keys { access, refresh } = keys.clone();
    [
        ("EVERGREEN_ACCESS_KEYS", access),
        ("EVERGREEN_REFRESH_KEYS", refresh),
    ]
}

fn access(keys: &Keys) -> [(&'static str, String); 1] {
    [("EVERGREEN_ACCESS_KEYS", keys.access.clone())]
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The records that need a key, by ring, from `seal status --output json`.
fn records(status: &Value, id: &str) -> Vec<u64> {
    let rings = status["rings"].as_array().unwrap().iter();
    let keys = rings.flat_map(|ring| ring["keys"].as_array().unwrap());
    let found = keys.filter(|key| key["id"] == id);
    found.map(|key| key["records"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_key_is_removed_after_a_rotation_whose_broker_was_killed() {
    let site = Site::start(&[("TOKEN_LIFETIME", LIFETIME)]).await;
    let (old, new) = (Keys::new("old"), Keys::new("new"));
    let ids = site.seed(&old).await;
    assert_eq!(ids.len() as u64, INSTALLATIONS);
    let mut one = Member::start(site.broker("one", &old)).await;
    let mut two = Member::start(site.broker("two", &old)).await;
    let mut gateway = Member::start(site.gateway(&old.access, &two)).await;
    for keys in [old.then(&new), new.then(&old)] {
        restart(&mut gateway, access(&keys)).await;
        restart(&mut one, both(&keys)).await;
        restart(&mut two, both(&keys)).await;
    }
    let status = site.seal(&one, &["status", "--output", "json"]).run().await;
    let status: Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(status["records"], INSTALLATIONS);
    let before = records(&status, "old");
    assert!(before.iter().all(|records| *records > 800), "{before:?}");

    // The broker that rotates dies in the middle.
    let following = site.seal(&one, &["rotate"]).spawn();
    let url = format!("{}/v1/seal/rotate", one.internal);
    until("a rotation in the middle", PATIENCE, || async {
        let (_, shown) = get(&site.client, &url).await;
        let resealed = shown["rotation"]["resealed"].as_u64().unwrap_or(0);
        holds(resealed > 100, shown)
    })
    .await;
    one.kill().await;
    let (code, log) = following.wait_for_exit(PATIENCE).await;
    assert_eq!(code, Some(69), "{log:?}");
    let status = site.seal(&two, &["status", "--output", "json"]).run().await;
    let status: Value = serde_json::from_str(&stdout(&status)).unwrap();
    let left = records(&status, "old");
    assert!(left.iter().all(|records| *records > 0), "{left:?}");
    assert!(left < before, "{left:?} of {before:?}");
    refused(
        site.broker("early", &new),
        &["EVERGREEN_ACCESS_KEYS lacks the key `old`"],
    )
    .await;

    // Another broker goes on where it was. A second command joins the same rotation.
    one.launch().await;
    let commands = [site.seal(&two, &["rotate"]), site.seal(&one, &["rotate"])];
    let (first, second) = tokio::join!(
        commands[0].run_within(ROTATION),
        commands[1].run_within(ROTATION),
    );
    for output in [first, second] {
        let said = stdout(&output);
        for setting in ["EVERGREEN_ACCESS_KEYS", "EVERGREEN_REFRESH_KEYS"] {
            let expected = format!("Can be removed from {setting} now: old.");
            assert!(said.contains(&expected), "{said}");
        }
    }
    let table = stdout(&site.seal(&two, &["status"]).run().await);
    assert!(table.contains("MAY BE REMOVED"), "{table}");

    // Gateways first: brokers without the old key do not believe what it has signed.
    restart(&mut gateway, access(&new)).await;
    restart(&mut one, both(&new)).await;
    restart(&mut two, both(&new)).await;
    site.expect_every_token(&gateway, &ids).await;
    let status = site.seal(&two, &["status", "--output", "json"]).run().await;
    let status: Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(records(&status, "old"), [0, 0], "{status:#}");
    assert_eq!(records(&status, "new"), [INSTALLATIONS; 2], "{status:#}");
    stdout(&site.seal(&two, &["forget", "old"]).run().await);
    // The id is free for another key.
    refused(
        site.broker("other", &Keys::new("new")),
        &["another key under the id `new`"],
    )
    .await;
    let reused = new.then(&Keys::new("old"));
    restart(&mut one, both(&reused)).await;

    // A refresh may find the lock node slow on a busy machine.
    let refreshed = stream::iter(&ids).for_each_concurrent(16, async |id| {
        let url = format!("{}/v1/installations/{id}/refresh", two.internal);
        until("a refresh", PATIENCE, || async {
            let (status, body) = send(site.client.post(&url)).await;
            holds(status == 200, body)
        })
        .await;
    });
    refreshed.await;
    site.expect_every_token(&gateway, &ids).await;
    let ledger = site.sandbox.ledger().await;
    assert!(
        ledger["refresh_tokens_spent"].as_u64() >= Some(INSTALLATIONS),
        "{ledger}"
    );
    for never in ["spent_outside_grace", "calls_with_unknown_token"] {
        assert_eq!(ledger[never], 0, "{never}: {ledger}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_a_broker_still_seals_with_is_not_freed() {
    let site = Site::start(&[]).await;
    let (old, new) = (Keys::new("old"), Keys::new("new"));
    let behind = Member::start(site.broker("behind", &old.then(&new))).await;
    site.install(&behind, "locA").await;
    let front = Member::start(site.broker("front", &new.then(&old))).await;
    let output = site.seal(&front, &["rotate"]).run_within(ROTATION).await;
    let said = stdout(&output);
    assert!(
        said.contains("Still needed in EVERGREEN_ACCESS_KEYS: old."),
        "{said}"
    );
    assert!(!said.contains("Can be removed"), "{said}");
    let forgotten = site.seal(&front, &["forget", "old"]).run().await;
    assert_eq!(forgotten.status.code(), Some(1), "{forgotten:?}");
    refused(site.broker("without", &new), &["lacks the key `old`"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_does_not_start_without_a_key_of_its_journal() {
    let site = Site::start(&[("TOKEN_LIFETIME", "1h")]).await;
    let (old, new) = (Keys::new("old"), Keys::new("new"));
    let mut broker = Member::start(site.broker("broker", &old)).await;
    let id = site.install(&broker, "locA").await;
    let url = format!("{}/v1/installations/{id}/refresh", broker.internal);
    let (status, body) = send(site.client.post(url)).await;
    assert_eq!(status, 200, "{body}");
    broker.kill().await;
    // Another broker seals everything in the store anew.
    let mut other = Member::start(site.broker("other", &new.then(&old))).await;
    stdout(&site.seal(&other, &["rotate"]).run_within(ROTATION).await);
    restart(&mut other, both(&new)).await;
    let words = [
        "EVERGREEN_REFRESH_KEYS lacks a key",
        "this broker's journal",
        "(old)",
    ];
    refused(site.broker("broker", &new), &words).await;
    // With the key it seals its journal anew, and then works without it.
    broker.set(both(&new.then(&old)));
    broker.launch().await;
    let program = broker.program.as_ref().unwrap();
    program
        .wait_for_line(
            &["the journal is sealed with the first refresh key"],
            PATIENCE,
        )
        .await;
    restart(&mut broker, both(&new)).await;
}
