//! One suite for all stores: what one promises, whatever it is made of.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use store::freshness::Lead;
use store::{
    Caller, Change, Generation, InstallationId, KeyHash, KeyRing, Scope, Status, TokenReader,
    UserType,
};
use store_writer::grant::Enrolment;
use store_writer::installation::LastError;
use store_writer::protocol::{Refusal, Verdict};
use store_writer::writer::{Begin, Begun, Committed, GaveBack, Wanted};
use store_writer::{Grant, Leases, Rings, Store, StoreWriter};
use tests::cluster::Cluster;
use tests::deployed::{Deployed, Topology};
use tests::redis::Redis;
use tests::scratch::Scratch;
use tests::wait::{holds, until};
use tokio::sync::broadcast::Receiver;

const WINDOW: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(15);
/// How far a reader's copy of the store's clock may be ahead of it.
const CLOCKS: Duration = Duration::from_secs(1);

/// Runs a check on an embedded store, and on one in Redis and one in a Cluster with the users and
/// rights of `deploy/`: written by a broker, read by a gateway.
async fn on_all<F: Future<Output = ()>>(check: impl Fn(Arc<Store>) -> F) {
    let scratch = Scratch::new();
    let embedded = Store::embedded(scratch.path(), rings(), Lead::Auto).unwrap();
    check(Arc::new(embedded)).await;
    on_deployed::<Redis, F>(&check, 0).await;
    on_deployed::<Cluster, F>(&check, 1).await;
}

/// Runs it on a store in Redis, where what must not be lost is to be on so many replicas.
async fn on_deployed<T: Topology, F: Future<Output = ()>>(
    check: &impl Fn(Arc<Store>) -> F,
    replicas: usize,
) {
    let deployed = Deployed::<T>::start_over(0).await;
    let rings = rings();
    let broker = Store::replicated(&deployed.broker_url, replicas, rings.clone(), Lead::Auto);
    let gateway = TokenReader::redis(&deployed.gateway_url, rings.access).unwrap();
    check(Arc::new(Store {
        writer: broker.unwrap().writer,
        reader: gateway,
    }))
    .await;
}

fn rings() -> Rings {
    Rings {
        access: Arc::new(KeyRing::generate("a")),
        refresh: Arc::new(KeyRing::generate("r")),
    }
}

/// A first token pair that lives for `lifetime` from now.
fn enrolment(store: &Store, location: &str, lifetime: Duration) -> Enrolment {
    Enrolment {
        access_token: format!("access of {location}").into(),
        refresh_token: Some(format!("refresh of {location}").into()),
        expires_at: Some(store.reader.now() + lifetime),
        lifetime,
        scopes: "contacts.readonly".to_owned(),
        user_type: UserType::Location,
        location: Some(location.parse().unwrap()),
        company: Some("agency".parse().unwrap()),
    }
}

async fn enrolled(store: &Store, location: &str, lifetime: Duration) -> InstallationId {
    store
        .writer
        .enrol(&enrolment(store, location, lifetime))
        .await
        .unwrap()
}

/// Begins as a broker that holds a lease; leases of other brokers do not matter here.
async fn begin(writer: &StoreWriter, id: &InstallationId, wanted: Wanted) -> Begin {
    begin_within(writer, id, wanted, WINDOW).await
}

async fn begin_within(
    writer: &StoreWriter,
    id: &InstallationId,
    wanted: Wanted,
    window: Duration,
) -> Begin {
    let leases = Leases::local();
    let lease = leases.take(id, TTL).await.unwrap();
    let began = writer
        .begin(&lease, "broker", window, wanted, false)
        .await
        .unwrap();
    leases.release(lease).await;
    began
}

async fn begun(writer: &StoreWriter, id: &InstallationId) -> Begun {
    match begin(writer, id, Wanted::Now).await {
        Begin::Go(begun) => begun,
        other => panic!("{other:?}"),
    }
}

async fn revoke(store: &Store, id: &InstallationId) {
    let now = store.reader.now();
    assert!(store.writer.revoke(id, "test", now + CLOCKS).await.unwrap());
}

fn granted(store: &Store, begun: &Begun, successor: &str) -> Grant {
    let lifetime = Duration::from_secs(3600);
    Grant {
        installation: begun.installation.clone(),
        spent: begun.link.clone(),
        access_token: format!("access after {successor}").into(),
        refresh_token: successor.into(),
        expires_at: store.reader.now() + lifetime,
        lifetime,
        scopes: None,
    }
}

fn verdict(store: &Store, refusal: Refusal) -> Verdict {
    Verdict {
        refusal,
        error: LastError::new("test", "refused", store.reader.now()),
        retry_in: Duration::from_secs(60),
    }
}

async fn announced(changes: &mut Receiver<Change>, wanted: &Change) {
    let heard = async { while changes.recv().await.unwrap() != *wanted {} };
    let in_time = tokio::time::timeout(SOON, heard).await;
    assert!(in_time.is_ok(), "{wanted:?} was not announced");
}

/// Announcements, once they surely arrive.
async fn listening(store: &Store) -> Receiver<Change> {
    let mut changes = store.reader.changes();
    announced(&mut changes, &Change::Restored).await;
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_enrolled_can_be_read_and_found() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(3600)).await;
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.token.expose_secret(), "access of L1");
        assert_eq!(
            (record.status, record.generation),
            (Status::Active, Generation::FIRST)
        );
        assert_eq!(record.scopes, "contacts.readonly");
        assert_eq!(store.reader.resolve("L1").await.unwrap(), Some(id.clone()));
        assert_eq!(store.writer.resolve("L1").await.unwrap(), Some(id));
        assert_eq!(store.reader.resolve("L2").await.unwrap(), None);
        assert!(
            store
                .reader
                .access(&InstallationId::random())
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_location_is_one_installation_however_many_consent_at_once() {
    on_all(|store| async move {
        let enrolments = (0..16).map(|_| enrolled(&store, "L1", Duration::from_secs(60)));
        let ids: BTreeSet<InstallationId> = join_all(enrolments).await.into_iter().collect();
        assert_eq!(ids.len(), 1);
        let id = ids.first().unwrap();
        let snapshot = store.writer.load(id).await.unwrap().unwrap();
        let generation = snapshot.installation.access.generation;
        assert_eq!(generation.to_string(), "16", "every consent counts");
        assert_eq!(store.writer.stock().await.unwrap().installations, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_brokers_one_begins() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(60)).await;
        let began = join_all((0..16).map(|_| begin(&store.writer, &id, Wanted::Now))).await;
        let go = began
            .iter()
            .filter(|began| matches!(began, Begin::Go(_)))
            .count();
        let busy = began
            .iter()
            .filter(|began| matches!(began, Begin::Busy { .. }))
            .count();
        assert_eq!((go, busy), (1, 15));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_applied_once_announced_and_read() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        assert_eq!(begun.refresh_token.expose_secret(), "refresh of L1");
        let mut changes = listening(&store).await;
        let grant = granted(&store, &begun, "r2");
        let outcomes = join_all((0..8).map(|_| store.writer.commit(&grant))).await;
        let outcomes: Vec<Committed> = outcomes.into_iter().map(Result::unwrap).collect();
        let applied = |outcome: &&Committed| matches!(outcome, Committed::Applied { .. });
        assert_eq!(outcomes.iter().filter(applied).count(), 1, "{outcomes:?}");
        let duplicates = outcomes
            .iter()
            .filter(|outcome| **outcome == Committed::Duplicate);
        assert_eq!(duplicates.count(), 7);
        let generation = Generation::FIRST.next();
        announced(
            &mut changes,
            &Change::Installation {
                id: id.clone(),
                generation,
            },
        )
        .await;
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.token.expose_secret(), "access after r2");
        assert_eq!(record.generation, generation);
        let next = begun_token(&store, &id).await;
        assert_eq!(next, "r2");
    })
    .await;
}

async fn begun_token(store: &Store, id: &InstallationId) -> String {
    begun(&store.writer, id)
        .await
        .refresh_token
        .expose_secret()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_answers_one_wins_and_none_is_thrown_away() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        let grants: Vec<Grant> = (0..8)
            .map(|n| granted(&store, &begun, &format!("successor {n}")))
            .collect();
        let outcomes = join_all(grants.iter().map(|grant| store.writer.commit(grant))).await;
        let kept = outcomes
            .iter()
            .filter(|outcome| *outcome.as_ref().unwrap() == Committed::Kept);
        assert_eq!(kept.count(), 7);
        let snapshot = store.writer.load(&id).await.unwrap().unwrap();
        assert_eq!(snapshot.installation.alternates.len(), 7);
        assert_eq!(
            snapshot.installation.access.generation,
            Generation::FIRST.next()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_replaced_by_the_kept_ones_until_none_is_left() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(60)).await;
        let first = begun(&store.writer, &id).await;
        for successor in ["r2", "r2 too"] {
            store
                .writer
                .commit(&granted(&store, &first, successor))
                .await
                .unwrap();
        }
        let terminal = verdict(&store, Refusal::Terminal);
        let second = begun(&store.writer, &id).await;
        let give_back = |begun: Begun, terminal: Verdict| {
            let writer = store.writer.clone();
            async move {
                let id = &begun.installation;
                writer
                    .give_back(id, &begun.link, &begun.intent, &terminal)
                    .await
                    .unwrap()
            }
        };
        assert_eq!(give_back(second, terminal.clone()).await, GaveBack::Adopted);
        let third = begun(&store.writer, &id).await;
        assert_eq!(third.refresh_token.expose_secret(), "r2 too");
        let mut changes = listening(&store).await;
        assert_eq!(
            give_back(third, terminal).await,
            GaveBack::Noted(Status::Invalid)
        );
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Invalid);
        let generation = record.generation;
        announced(&mut changes, &Change::Installation { id, generation }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_outcome_is_unknown_is_taken_over_when_its_time_is_up() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(3600)).await;
        let window = Duration::from_millis(300);
        let began = begin_within(&store.writer, &id, Wanted::Now, window).await;
        assert!(matches!(began, Begin::Go(_)), "and the broker dies");
        let writer = &store.writer;
        let taken = until("the takeover", SOON, || async {
            // By the schedule, as another broker would.
            let claimed = writer
                .claim(
                    id.partition(),
                    8,
                    store.reader.now(),
                    Duration::from_millis(50),
                )
                .await
                .unwrap();
            holds(claimed == [id.clone()], claimed)?;
            match begin(writer, &id, Wanted::Due).await {
                Begin::Go(begun) => Ok(begun),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(taken.first_spent_at.is_some(), "the token may be spent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_claimed_by_one_and_comes_back_if_nothing_happens() {
    on_all(|store| async move {
        let mut ids = BTreeSet::new();
        for number in 0..40 {
            // Expired as it arrives: due at once.
            ids.insert(enrolled(&store, &format!("L{number}"), Duration::ZERO).await);
        }
        let all_is_due = async || {
            let partitions: BTreeSet<u8> = ids.iter().map(InstallationId::partition).collect();
            let due = store.writer.upcoming().await.unwrap().due;
            let due: BTreeSet<u8> = due.into_iter().map(|(partition, _)| partition).collect();
            holds(due == partitions, due)
        };
        until("all to be due", SOON, &all_is_due).await;
        let claim_all = async |claim: Duration| {
            let mut claimed = Vec::new();
            for (partition, by) in store.writer.upcoming().await.unwrap().due {
                let racers = (0..3).map(|_| store.writer.claim(partition, 2, by, claim));
                for racer in join_all(racers).await {
                    claimed.extend(racer.unwrap());
                }
            }
            claimed
        };
        let claim = Duration::from_secs(2);
        let claimed = claim_all(claim).await;
        let distinct: BTreeSet<InstallationId> = claimed.iter().cloned().collect();
        assert_eq!(
            distinct.len(),
            claimed.len(),
            "nobody gets what another has"
        );
        assert_eq!(distinct, ids);
        until("the claims to run out", SOON, &all_is_due).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hastening_moves_what_is_scheduled_and_only_forward() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(8000)).await;
        let next_in = async || store.writer.upcoming().await.unwrap().next_in.unwrap();
        let planned = next_in().await;
        assert!(planned > Duration::from_secs(6000), "{planned:?}");
        let now = store.reader.now();
        store
            .writer
            .hasten(&id, now + Duration::from_secs(9000))
            .await
            .unwrap();
        assert!(
            next_in().await > Duration::from_secs(6000),
            "never later than planned"
        );
        store
            .writer
            .hasten(&id, now + Duration::from_secs(100))
            .await
            .unwrap();
        assert!(next_in().await <= Duration::from_secs(100) + CLOCKS);
        store.writer.reschedule(&id).await.unwrap();
        assert!(
            next_in().await > Duration::from_secs(6000),
            "back to what its record says"
        );
        revoke(&store, &id).await;
        store.writer.hasten(&id, now).await.unwrap();
        let upcoming = store.writer.upcoming().await.unwrap();
        assert!(
            upcoming.due.is_empty() && upcoming.next_in.is_none(),
            "revoked means never"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_is_announced_and_a_consent_revives_the_same_installation() {
    on_all(|store| async move {
        let id = enrolled(&store, "L1", Duration::from_secs(60)).await;
        let mut changes = listening(&store).await;
        revoke(&store, &id).await;
        let generation = Generation::FIRST;
        announced(
            &mut changes,
            &Change::Installation {
                id: id.clone(),
                generation,
            },
        )
        .await;
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Revoked);
        assert!(matches!(
            begin(&store.writer, &id, Wanted::Now).await,
            Begin::NotRefreshable(Status::Revoked)
        ));
        assert_eq!(enrolled(&store, "L1", Duration::from_secs(60)).await, id);
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Active);
        assert!(record.generation > generation, "cached copies are older");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_are_complete_and_in_order() {
    on_all(|store| async move {
        let mut ids = BTreeSet::new();
        for number in 0..300 {
            ids.insert(enrolled(&store, &format!("L{number}"), Duration::from_secs(60)).await);
        }
        let mut listed = Vec::new();
        loop {
            let page = store.writer.list(listed.last(), 70).await.unwrap();
            listed.extend(page.iter().map(|snapshot| snapshot.installation.id.clone()));
            if page.len() < 70 {
                break;
            }
        }
        assert_eq!(listed, ids.into_iter().collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_tells_the_nearest_expiry_of_what_is_refreshed() {
    on_all(|store| async move {
        assert_eq!(store.writer.stock().await.unwrap().nearest_expiry, None);
        let near = enrolled(&store, "near", Duration::from_secs(100)).await;
        enrolled(&store, "far", Duration::from_secs(5000)).await;
        let stock = store.writer.stock().await.unwrap();
        assert_eq!((stock.installations, stock.refreshing), (2, 2));
        let left = stock.nearest_expiry.unwrap();
        assert!(
            left > Duration::from_secs(90) && left <= Duration::from_secs(100) + CLOCKS,
            "{left:?}"
        );
        revoke(&store, &near).await;
        let stock = store.writer.stock().await.unwrap();
        assert_eq!((stock.installations, stock.refreshing), (2, 1));
        assert!(stock.nearest_expiry.unwrap() > Duration::from_secs(4000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_consent_is_used_once() {
    on_all(|store| async move {
        let users = join_all((0..8).map(|_| store.writer.is_first_use("state"))).await;
        let first = users
            .into_iter()
            .filter(|first| *first.as_ref().unwrap())
            .count();
        assert_eq!(first, 1);
        assert!(store.writer.is_first_use("another").await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_closes_by_itself() {
    on_all(|store| async move {
        let pause = Duration::from_millis(200);
        let open = || store.writer.open_breaker("refused", pause);
        assert!(open().await.unwrap());
        assert!(!open().await.unwrap(), "one of many opens it");
        let reason = store.writer.breaker().await.unwrap();
        assert_eq!(reason.as_deref(), Some("refused"));
        until("the breaker to close", SOON, || async {
            let reason = store.writer.breaker().await.unwrap();
            holds(reason.is_none(), reason)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubted_client_pair_is_news_once_and_so_is_its_return() {
    on_all(|store| async move {
        let writer = &store.writer;
        writer.open_breaker("refused", SOON).await.unwrap();
        assert!(writer.distrust_pair("refused").await.unwrap());
        assert!(!writer.distrust_pair("refused again").await.unwrap());
        let reason = writer.distrust().await.unwrap();
        assert_eq!(reason.as_deref(), Some("refused"));

        assert!(writer.trust_pair().await.unwrap());
        assert_eq!(writer.distrust().await.unwrap(), None);
        assert_eq!(writer.breaker().await.unwrap(), None, "nobody waits on");

        // A pause for another reason goes on.
        writer.open_breaker("overloaded", SOON).await.unwrap();
        assert!(!writer.trust_pair().await.unwrap());
        assert!(writer.breaker().await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_key_is_known_by_its_hash_until_it_is_revoked() {
    on_all(|store| async move {
        assert!(!store.reader.keys_in_use().await.unwrap());
        let caller = Caller {
            name: "crm".to_owned(),
            scopes: vec![Scope::Proxy],
            installations: None,
            quota: Some("100/10s".parse().unwrap()),
            created_at: store.reader.now(),
            expires_at: None,
            revoked_at: None,
        };
        let key = store.writer.create_caller(&caller).await.unwrap();
        let hash = KeyHash::of(key.expose_secret());
        assert_eq!(store.reader.caller(&hash).await.unwrap(), Some(caller));
        assert!(store.reader.keys_in_use().await.unwrap());
        let mut changes = listening(&store).await;
        let now = store.reader.now();
        assert!(store.writer.revoke_caller(&hash, now).await.unwrap());
        announced(&mut changes, &Change::Caller(hash)).await;
        let revoked = store.reader.caller(&hash).await.unwrap().unwrap();
        assert!(!revoked.is_live(now));
        assert!(
            store.reader.keys_in_use().await.unwrap(),
            "a gateway does not open again"
        );
        assert_eq!(store.writer.callers().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_token_is_never_due() {
    on_all(|store| async move {
        let enrolment = Enrolment {
            refresh_token: None,
            expires_at: None,
            ..enrolment(&store, "L1", Duration::ZERO)
        };
        let id = store.writer.enrol(&enrolment).await.unwrap();
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!((record.status, record.expires_at), (Status::Static, None));
        let upcoming = store.writer.upcoming().await.unwrap();
        assert!(upcoming.due.is_empty() && upcoming.next_in.is_none());
        let began = begin(&store.writer, &id, Wanted::Now).await;
        assert!(
            matches!(began, Begin::NotRefreshable(Status::Static)),
            "{began:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_lies_in_the_open() {
    let scratch = Scratch::new();
    let server = Redis::start().await;
    let url = SecretString::from(server.url());
    let redis = Store::redis(&url, rings(), Lead::Auto).unwrap();
    let embedded = Store::embedded(scratch.path(), rings(), Lead::Auto).unwrap();
    let places = [server.data_dir(), scratch.path().to_owned()];
    for (store, directory) in [&redis, &embedded].into_iter().zip(places) {
        let id = enrolled(store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        store
            .writer
            .commit(&granted(store, &begun, "r2"))
            .await
            .unwrap();
        store
            .writer
            .commit(&granted(store, &begun, "r2 too"))
            .await
            .unwrap();
        let stored = read_all(&directory);
        assert!(
            contains(&stored, id.as_str().as_bytes()),
            "{directory:?} holds the records"
        );
        for secret in ["access of L1", "refresh of L1", "access after", "r2 too"] {
            assert!(
                !contains(&stored, secret.as_bytes()),
                "{secret} in {directory:?}"
            );
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn read_all(directory: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() {
            read_all(&path)
        } else {
            std::fs::read(&path).unwrap()
        });
    }
    bytes
}
