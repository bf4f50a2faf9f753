//! A move copies everything: the store's own operations read the same from the target as from the file.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use store::audit::{Action, Day};
use store::connection::Address;
use store::freshness::Lead;
use store::{
    AppName, Caller, ExternalId, InstallationId, KeyHash, KeyRing, Scope, Timestamp, UserType,
};
use store_writer::backend::DueEntries;
use store_writer::events::{Event, EventType};
use store_writer::grant::Registration;
use store_writer::identity::{StoreId, StoreMark};
use store_writer::moving::{Move, MoveError, Progress, Refusal, Step, Undone};
use store_writer::outbox::{Settlement, Subject, Subscriber};
use store_writer::{OpenStoreError, Rings, Store, StoreWriter};
use tests::cluster::Cluster;
use tests::deployed::{Deployed, Topology};
use tests::redis::Redis;
use tests::scratch::Scratch;
use tests::wait::until;

const ENDPOINT: &str = "crm";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(90);

fn rings() -> Rings {
    Rings {
        access: Arc::new(KeyRing::generate("a")),
        refresh: Arc::new(KeyRing::generate("r")),
    }
}

fn registration(app: &str, location: Option<&str>, company: &str, now: Timestamp) -> Registration {
    Registration {
        app: app.parse().unwrap(),
        client: None,
        access_token: format!("access of {location:?} {company}").into(),
        refresh_token: Some(format!("refresh of {location:?} {company}").into()),
        expires_at: Some(now + HOUR),
        lifetime: HOUR,
        scopes: "contacts.readonly".to_owned(),
        user_type: match location {
            Some(_) => UserType::Location,
            None => UserType::Company,
        },
        location: location.map(|it| it.parse().unwrap()),
        company: Some(company.parse().unwrap()),
    }
}

fn caller(name: &str, now: Timestamp) -> Caller {
    Caller {
        name: name.to_owned(),
        scopes: vec![Scope::Proxy],
        app: None,
        installations: None,
        calls: None,
        quota: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
    }
}

/// A store with everything that `up` keeps.
async fn fill(store: &Store) {
    let (writer, now) = (&store.writer, store.reader.now());
    writer.make_mark(&StoreId::random()).await.unwrap();
    writer.register_keys().await.unwrap();
    writer.subscribers().set(vec![Subscriber {
        endpoint: ENDPOINT.to_owned(),
        wants: Box::new(|_| true),
    }]);
    for number in 0..40 {
        let location = format!("L{number}");
        let one = registration("default", Some(&location), "C1", now);
        writer.register_installation(&one).await.unwrap();
    }
    let one = registration("staging", Some("L1"), "C1", now);
    writer.register_installation(&one).await.unwrap();
    let agency = registration("default", None, "C2", now);
    writer.register_installation(&agency).await.unwrap();
    let all = ids(writer).await;
    let (ended, named) = (all[0].clone(), &all[1]);
    let external: ExternalId = "customer-7".parse().unwrap();
    let app = AppName::default();
    writer
        .name_customer(&app, &external, named, false)
        .await
        .unwrap();
    writer.revoke(&ended, "uninstalled", now).await.unwrap();
    for name in ["shop", "desk"] {
        let key = writer.create_caller(&caller(name, now)).await.unwrap();
        let hash = KeyHash::of(secrecy::ExposeSecret::expose_secret(&key));
        let noted = writer.audit_key(Action::KeyCreated, &hash, name, "proxy");
        noted.await.unwrap();
        writer
            .record_key_uses(vec![(hash, Day::of(now))])
            .await
            .unwrap();
    }
    for _ in 0..3 {
        let kind = EventType::CredentialsRejected;
        let event = Event::about_app(AppName::default(), kind, Some("wrong".into()), now);
        writer.publish_event(&event).await.unwrap();
    }
    let subject = Subject::installation(&ended);
    let queued = writer.queued(ENDPOINT, &subject, 10).await.unwrap();
    let dead = Settlement::Dead {
        message: queued.messages[0].clone(),
        letter: "a letter".to_owned(),
    };
    writer
        .settle(ENDPOINT, &subject, &dead, HOUR)
        .await
        .unwrap();
    let failed = Settlement::Failed {
        attempts: "2".to_owned(),
    };
    writer
        .settle(ENDPOINT, &subject, &failed, HOUR)
        .await
        .unwrap();
    assert!(writer.use_consent_state("1").await.unwrap());
}

async fn ids(writer: &StoreWriter) -> Vec<InstallationId> {
    let listed = writer.list(None, 1000).await.unwrap().into_iter();
    listed.map(|one| one.id().clone()).collect()
}

/// Everything that the store's operations show, as text.
async fn shown(writer: &StoreWriter) -> Vec<String> {
    let mut lines = Vec::new();
    let mut note = |line: String| lines.push(line);
    let StoreMark { id, format } = writer.mark().await.unwrap().unwrap();
    note(format!("{id} {format}"));
    for id in ids(writer).await {
        let known = writer.load(&id).await.unwrap().unwrap();
        note(format!("{:?}", known.installation));
        let queued = writer
            .queued(ENDPOINT, &Subject::installation(&id), 100)
            .await;
        note(format!("{id} {:?}", queued.unwrap()));
    }
    for name in ["L1", "L7", "C2", "x:customer-7"] {
        note(format!("{name} {:?}", writer.resolve(name).await.unwrap()));
    }
    for app in ["default", "staging"] {
        let by = Timestamp::of_this_machine() + 10 * HOUR;
        let due = writer.count_due(&app.parse().unwrap(), by).await.unwrap();
        note(format!("{app} {due}"));
        assert!(due > 0);
    }
    let mut callers = writer.callers().await.unwrap();
    callers.sort_by_key(|(hash, _)| hash.to_string());
    note(format!(
        "{callers:?} {:?}",
        writer.key_uses().await.unwrap().len()
    ));
    note(format!("{:?}", writer.audit(1000).await.unwrap()));
    note(format!("{:?}", writer.newest_events(1000).await.unwrap()));
    note(format!(
        "{:?}",
        writer.dead_letters(ENDPOINT, 10).await.unwrap()
    ));
    note(format!(
        "{:?}",
        writer.count_deliveries(ENDPOINT).await.unwrap()
    ));
    let stats = writer.stats().await.unwrap();
    note(format!("{} {}", stats.installations, stats.refreshing));
    lines
}

/// Opens both stores, as soon as the earlier user of the file has closed it.
async fn open<T>(scratch: &Scratch, rings: &Rings, to: &Deployed<T>, replicas: usize) -> Move {
    open_named(scratch, rings, (to, "ghl"), replicas).await
}

/// As [`open`], with keys of a prefix there.
async fn open_named<T>(
    scratch: &Scratch,
    rings: &Rings,
    (to, prefix): (&Deployed<T>, &str),
    replicas: usize,
) -> Move {
    until("the file", PATIENCE, async || {
        let address = Address::parse(&to.broker_url).unwrap();
        let address = address.with_prefix(prefix.parse().unwrap());
        let to = (address, "there".to_owned());
        Move::open(scratch.path(), rings, to, replicas).map_err(|error| error.to_string())
    })
    .await
}

async fn whole_store_is_moved<T: Topology>(replicas: usize, prefix: &str) {
    let (scratch, rings) = (Scratch::new(), rings());
    let before = {
        let store = Store::embedded(scratch.path(), rings.clone(), Lead::Auto).unwrap();
        fill(&store).await;
        shown(&store.writer).await
    };
    let deployed = Deployed::<T>::start_named(0, &[("PREFIX", prefix)]).await;
    for expected in [Step::Begin, Step::Done] {
        let moving = open_named(&scratch, &rings, (&deployed, prefix), replicas).await;
        let step = moving.run(None, &mut |_| {}).await.unwrap();
        assert_eq!(step, expected);
    }
    let error = until("the file", PATIENCE, async || {
        match Store::embedded(scratch.path(), rings.clone(), Lead::Auto) {
            Err(moved @ OpenStoreError::Moved(_)) => Ok(moved.to_string()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.contains("was moved to there"), "{error}");
    let address = Address::parse(&deployed.broker_url).unwrap();
    let address = address.with_prefix(prefix.parse().unwrap());
    let there = Store::at(address, replicas, rings.clone(), Lead::Auto)
        .unwrap()
        .writer;
    let after = shown(&there).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after, before);
    }
    assert_eq!(before.len(), after.len());
    there.check_keys().await.unwrap();
    assert!(!there.use_consent_state("1").await.unwrap(), "it was used");

    // The order of a queue, once it is due.
    there
        .hasten_deliveries(ENDPOINT, Duration::ZERO)
        .await
        .unwrap();
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let poll = there.poll_deliveries(ENDPOINT, &all).await.unwrap();
    assert!(!poll.due.is_empty());
    let (partition, by) = poll.due[0];
    let due = DueEntries {
        partition,
        limit: 10,
        from: None,
        by,
    };
    assert!(
        !there
            .claim_deliveries(ENDPOINT, due, HOUR)
            .await
            .unwrap()
            .is_empty()
    );

    // A record that somebody has written there is never overwritten, and the way back is closed.
    let changed = ids(&there).await.remove(1);
    let now = Timestamp::of_this_machine();
    assert!(there.revoke(&changed, "test", now + HOUR).await.unwrap());
    let moving = open_named(&scratch, &rings, (&deployed, prefix), replicas).await;
    let undone = moving.undo(&mut |_| {}).await;
    let used = matches!(&undone, Err(MoveError::Refused(Refusal::Used { what, .. })) if what.contains(changed.as_str()));
    assert!(used, "{undone:?}");
    assert_eq!(moving.run(None, &mut |_| {}).await.unwrap(), Step::Done);
    let known = there.load(&changed).await.unwrap().unwrap();
    assert_eq!(known.installation.access.status, store::Status::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_store_is_moved_to_a_server() {
    whole_store_is_moved::<Redis>(0, "acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_store_is_moved_to_a_cluster() {
    whole_store_is_moved::<Cluster>(1, "ghl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_copy_of_a_moved_file_is_refused() {
    let (scratch, rings, backup) = (Scratch::new(), rings(), Scratch::new());
    let store = Store::embedded(scratch.path(), rings.clone(), Lead::Auto).unwrap();
    fill(&store).await;
    drop(store);
    let copy = backup.path().join("store.redb");
    fs::copy(scratch.path().join("store.redb"), copy).unwrap();
    let deployed = Deployed::<Redis>::start_topology(0).await;
    let moving = open(&scratch, &rings, &deployed, 0).await;
    moving.run(None, &mut |_| {}).await.unwrap();
    let older = open(&backup, &rings, &deployed, 0)
        .await
        .run(None, &mut |_| {})
        .await;
    assert!(
        matches!(older, Err(MoveError::Refused(Refusal::OlderCopy))),
        "{older:?}"
    );
    assert_eq!(moving.undo(&mut |_| {}).await.unwrap(), Undone::Emptied);
    drop(moving);
    until("the file", PATIENCE, async || {
        let opened = Store::embedded(scratch.path(), rings.clone(), Lead::Auto);
        opened.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_is_made_while_an_undo_closes_the_target_is_kept() {
    let (scratch, rings) = (Scratch::new(), rings());
    let store = Store::embedded(scratch.path(), rings.clone(), Lead::Auto).unwrap();
    fill(&store).await;
    drop(store);
    let deployed = Deployed::<Redis>::start_topology(0).await;
    let moving = open(&scratch, &rings, &deployed, 0).await;
    moving.run(None, &mut |_| {}).await.unwrap();
    let there = Store::replicated(&deployed.broker_url, 0, rings.clone(), Lead::Auto);
    let there = there.unwrap().writer;
    let late = caller("late", Timestamp::of_this_machine());
    let runtime = tokio::runtime::Handle::current();
    let mut make_key = |progress| {
        if progress == Progress::Closed {
            let made = || runtime.block_on(there.create_caller(&late));
            tokio::task::block_in_place(made).unwrap();
        }
    };
    let undone = moving.undo(&mut make_key).await;
    let used = matches!(&undone, Err(MoveError::Refused(Refusal::Used { what, .. })) if what.contains("keys"));
    assert!(used, "{undone:?}");
    // The target is open again, and has everything.
    assert_eq!(moving.run(None, &mut |_| {}).await.unwrap(), Step::Done);
    assert_eq!(there.callers().await.unwrap().len(), 3);
    assert_eq!(ids(&there).await.len(), 42);
}
