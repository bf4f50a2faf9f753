//! Processes whose rings do not fit the store.

use std::fs;

use tests::redis::cli;
use tests::up::Up;
use tests::wait::{holds, until};

use super::*;

const ACCESS: &str = "EVERGREEN_ACCESS_KEYS";
const REFRESH: &str = "EVERGREEN_REFRESH_KEYS";

fn other(setting: &str, id: &str) -> String {
    format!("{setting} has another key under the id `{id}`")
}

fn lacks(setting: &str, id: &str) -> String {
    format!("{setting} lacks the key `{id}`")
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_gateway_with_wrong_keys_refuse_to_start() {
    let site = Site::start(&[]).await;
    let keys = Keys::new("a");
    let broker = Member::start(site.broker("broker", &keys)).await;
    let id = site.install(&broker, "locA").await;

    let (same_id, other_id) = (Keys::new("a"), Keys::new("b"));
    let access = |of: &Keys| Keys {
        access: of.access.clone(),
        ..keys.clone()
    };
    let refresh = |of: &Keys| Keys {
        refresh: of.refresh.clone(),
        ..keys.clone()
    };
    for (wrong, message) in [
        (access(&same_id), other(ACCESS, "a")),
        (access(&other_id), lacks(ACCESS, "a")),
        (refresh(&same_id), other(REFRESH, "a")),
        (refresh(&other_id), lacks(REFRESH, "a")),
    ] {
        refused(site.broker("stranger", &wrong), &[&message]).await;
    }
    for (wrong, message) in [
        (&same_id, other(ACCESS, "a")),
        (&other_id, lacks(ACCESS, "a")),
    ] {
        refused(site.gateway(&wrong.access, &broker), &[&message]).await;
    }
    let gateway = Member::start(site.gateway(&keys.access, &broker)).await;
    let (status, token) = site.token(&gateway, &id).await;
    assert_eq!(status, 200, "{token}");
    // A key that is declared lost is not missing.
    let without = Keys {
        access: format!("{},a:lost", other_id.access),
        refresh: format!("{},a:lost", other_id.refresh),
    };
    Member::start(site.broker("without", &without)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_key_behind_the_first_is_needed_only_after_it_seals() {
    let site = Site::start(&[]).await;
    let (old, new) = (Keys::new("old"), Keys::new("new"));
    let mut broker = Member::start(site.broker("broker", &old)).await;
    site.install(&broker, "locA").await;
    let both = |keys: &Keys| {
        let Keys { access, refresh } = keys.clone();
        [(ACCESS, access), (REFRESH, refresh)]
    };
    broker.kill().await;
    broker.set(both(&old.then(&new)));
    broker.launch().await;
    // Others may still be without the new key, but not with another one of its name.
    Member::start(site.gateway(&old.access, &broker)).await;
    let wrong = format!("{},{}", old.access, key("new"));
    refused(site.gateway(&wrong, &broker), &[&other(ACCESS, "new")]).await;
    broker.kill().await;
    broker.set(both(&new.then(&old)));
    broker.launch().await;
    refused(site.gateway(&old.access, &broker), &[&lacks(ACCESS, "new")]).await;
    refused(site.gateway(&new.access, &broker), &[&lacks(ACCESS, "old")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_over_an_older_store_are_found_by_its_records() {
    let site = Site::start(&[]).await;
    let keys = Keys::new("a");
    let mut broker = Member::start(site.broker("broker", &keys)).await;
    site.install(&broker, "locA").await;
    broker.kill().await;
    // Older versions kept no lists.
    let forget = ["del", "ghl:seal:access", "ghl:seal:refresh"];
    cli(site.redis.port(), None, &forget).await;
    let wrong = site.broker("stranger", &Keys::new("a"));
    refused(wrong, &[&other(ACCESS, "a")]).await;
    let wrong = site.broker("stranger", &Keys::new("b"));
    refused(wrong, &[&lacks(ACCESS, "a")]).await;
    let listed = cli(site.redis.port(), None, &["keys", "ghl:seal:*"]).await;
    assert_eq!(listed, "", "a refused process writes nothing");
    broker.launch().await;
    let wrong = site.broker("stranger", &Keys::new("b"));
    refused(wrong, &[&lacks(ACCESS, "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_end_a_process_when_its_store_answers() {
    let mut site = Site::start(&[]).await;
    let keys = Keys::new("a");
    let broker = Member::start(site.broker("broker", &keys)).await;
    site.install(&broker, "locA").await;
    site.redis.kill().await;
    let wrong = Keys::new("a");
    let mut members = [
        site.broker("stranger", &wrong),
        site.gateway(&wrong.access, &broker),
    ]
    .map(Member::new);
    for member in &mut members {
        member.spawn();
    }
    for (member, line) in members
        .iter()
        .zip(["the broker serves", "the gateway serves"])
    {
        let program = member.program.as_ref().unwrap();
        program.wait_for_line(&[line], PATIENCE).await;
        let (status, _) = get(&site.client, &format!("{}/readyz", member.internal)).await;
        assert_eq!(status, 503);
    }
    site.redis.restart().await;
    for member in members {
        let program = member.program.unwrap();
        let (code, log) = program.wait_for_exit(PATIENCE).await;
        let log = log.join("\n");
        assert_eq!(code, Some(69), "{log}");
        let message = format!("evergreen did not start: {}", other(ACCESS, "a"));
        assert!(log.contains(&message), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_brokers_with_different_keys_wins_a_new_store() {
    let site = Site::start(&[]).await;
    let mut brokers = [("one", "a"), ("two", "b")].map(|(name, id)| {
        let mut broker = Member::new(site.broker(name, &Keys::new(id)));
        broker.spawn();
        broker
    });
    let ended = until("one broker to end", PATIENCE, || {
        let ended: Vec<usize> = (0..2)
            .filter(|index| brokers[*index].program.as_mut().unwrap().has_ended())
            .collect();
        async move {
            match ended.as_slice() {
                [one] => Ok(*one),
                others => Err(format!("{others:?}")),
            }
        }
    })
    .await;
    let log = brokers[ended].log().join("\n");
    assert!(log.contains("lacks the key"), "{log}");
    let url = format!("{}/readyz", brokers[1 - ended].internal);
    until("the other to be ready", PATIENCE, || async {
        let (status, body) = get(&site.client, &url).await;
        holds(status == 200, body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_with_wrong_keys_refuses_to_start() {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    let directory = up.data_dir();
    up.program.terminate(PATIENCE).await;
    let start = || {
        placed(Start::evergreen(&["up"]))
            .args(&["--data-dir", &directory])
            .env(
                "EVERGREEN_SANDBOX_LISTEN",
                format!("127.0.0.1:{}", port::free()),
            )
    };
    for (file, setting) in [("access.keys", ACCESS), ("refresh.keys", REFRESH)] {
        let path = format!("{directory}/{file}");
        let right = fs::read_to_string(&path).unwrap();
        fs::write(&path, key("local")).unwrap();
        refused(start(), &[&other(setting, "local"), file]).await;
        fs::write(&path, right).unwrap();
    }
    let keys = Keys::new("mine");
    let given = start().env(ACCESS, keys.access).env(REFRESH, keys.refresh);
    refused(given, &[&lacks(ACCESS, "local")]).await;
    let program = start().spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
}
