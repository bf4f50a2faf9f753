//! The lists of sealing keys.

use store::key_list::{KeyCheck, RingKind, WrongRing};
use store_writer::sealing::KeysError;
use store_writer::sealing::list::NotForgotten;

use super::*;

fn missing(error: Result<(), KeysError>) -> Vec<String> {
    match error {
        Err(KeysError::Wrong(WrongRing::MissingKeys { ids, .. })) => ids,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_keys_are_needed_by_every_other_process() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert_eq!(store.reader.check_keys().await.unwrap(), KeyCheck::Unlisted);
        writer.check_keys().await.unwrap();
        assert_eq!(store.reader.check_keys().await.unwrap(), KeyCheck::Unlisted);
        writer.register_keys().await.unwrap();
        writer.register_keys().await.unwrap();
        assert_eq!(store.reader.check_keys().await.unwrap(), KeyCheck::Fits);
        let other = Rings {
            access: Arc::new(KeyRing::generate("b")),
            refresh: Arc::new(KeyRing::generate("r")),
        };
        let stranger = writer.with_rings(other);
        assert_eq!(missing(stranger.check_keys().await), ["a"]);
        assert_eq!(missing(stranger.register_keys().await), ["a"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_of_concurrent_brokers_with_different_keys_wins() {
    on_all(|store| async move {
        let brokers = (0..8).map(|number| {
            store.writer.with_rings(Rings {
                access: Arc::new(KeyRing::generate(&format!("a{number}"))),
                refresh: Arc::new(KeyRing::generate("r")),
            })
        });
        let brokers: Vec<StoreWriter> = brokers.collect();
        let registered = join_all(brokers.iter().map(StoreWriter::register_keys)).await;
        let lost = registered.iter().filter(|outcome| outcome.is_err());
        assert_eq!(lost.count(), 7, "{registered:?}");
    })
    .await;
}

fn ring_of(keys: &[&SecretString]) -> Arc<KeyRing> {
    let texts: Vec<&str> = keys.iter().map(|key| key.expose_secret()).collect();
    Arc::new(KeyRing::parse(&texts.join(",").into()).unwrap())
}

/// Writers of processes with the old key, with the new key in front, with the old key in front, and with the
/// new key.
fn writers(store: &Store) -> [StoreWriter; 4] {
    let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
    [vec![&old], vec![&new, &old], vec![&old, &new], vec![&new]].map(|keys| {
        store.writer.with_rings(Rings {
            access: ring_of(&keys),
            refresh: ring_of(&keys),
        })
    })
}

/// An installation whose tokens this writer has sealed.
async fn installed(writer: &StoreWriter, store: &Store) -> InstallationId {
    let registration = registration(store, "L1", Duration::from_secs(60));
    writer.register_installation(&registration).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn resealed_record_keeps_its_schedule_and_is_not_announced() {
    on_all(|store| async move {
        let [old, both, _, new] = writers(&store);
        let id = installed(&old, &store).await;
        let before = old.load(&id).await.unwrap().unwrap().installation;
        // A time that only the schedule has stays, too.
        let soon = store.reader.now() - Duration::from_secs(1);
        old.reschedule_earlier(&id, &AppName::default(), soon)
            .await
            .unwrap();
        let due = old
            .poll_due(Schedule::Due, &AppName::default())
            .await
            .unwrap()
            .due;
        let mut invalidations = subscribe(&store).await;

        let resealed = both.reseal(&id).await.unwrap();
        assert!(resealed.is_written);
        assert_eq!(resealed.before.access.sealed["old"], 1);
        assert_eq!(resealed.after.refresh.sealed["new"], 1);
        assert!(!both.reseal(&id).await.unwrap().is_written, "once");
        let mut after = new.load(&id).await.unwrap().unwrap().installation;
        let (count, next) = new.count_seals(0, 1).await.unwrap();
        assert_eq!((count.records, count.access.unreadable.len()), (1, 0));
        assert!(next.is_none_or(|next| next > id.partition()));
        after.access.token = before.access.token.clone();
        after.chain.clone_from(&before.chain);
        assert_eq!(after, before);
        assert_eq!(
            old.poll_due(Schedule::Due, &AppName::default())
                .await
                .unwrap()
                .due,
            due
        );

        let now = store.reader.now();
        new.revoke(&id, "test", now + CLOCK_SKEW).await.unwrap();
        let first = loop {
            match invalidations.recv().await.unwrap() {
                Invalidation::ChannelRestored => {}
                other => break other,
            }
        };
        // The first one that is heard is that of the revocation.
        let generation = before.access.generation;
        assert_eq!(first, Invalidation::Installation { id, generation });
        assert!(invalidations.try_recv().is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_in_progress_is_committed_over_a_resealed_record() {
    on_all(|store| async move {
        let [old, both, _, new] = writers(&store);
        let id = installed(&old, &store).await;
        let first = begun(&old, &id).await;
        let grant = grant_with(&store, &first, "successor");
        let (resealed, committed) = tokio::join!(both.reseal(&id), old.commit(&grant));
        assert!(resealed.is_ok(), "{resealed:?}");
        assert!(matches!(committed.unwrap(), Committed::Applied { .. }));
        both.reseal(&id).await.unwrap();
        let next = new.load(&id).await.unwrap().unwrap().installation;
        assert_eq!(next.access.generation, first.link.generation.next());
        assert!(next.intent.is_none());
        let again = begun(&new, &id).await;
        assert_eq!(again.refresh_token.expose_secret(), "successor");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unneeded_key_is_freed_and_forgotten_and_then_not_missed() {
    on_all(|store| async move {
        let [old, both, behind, new] = writers(&store);
        let id = installed(&old, &store).await;
        old.register_keys().await.unwrap();
        both.register_keys().await.unwrap();
        let found = both.count_seals(0, u64::MAX).await.unwrap().0;
        assert!(!both.retire_keys(&found).await.unwrap(), "it is needed");
        let left = both.reseal(&id).await.unwrap().after;
        assert!(both.retire_keys(&left).await.unwrap());
        assert_eq!(missing(new.check_keys().await), ["old"], "not yet");
        // A broker that still seals with it.
        behind.register_keys().await.unwrap();
        both.free_keys(&left).await.unwrap();
        assert_eq!(missing(new.check_keys().await), ["old"]);

        assert!(both.retire_keys(&left).await.unwrap());
        both.free_keys(&left).await.unwrap();
        new.check_keys().await.unwrap();
        for kind in RingKind::ALL {
            let in_ring = both.forget_key(kind, "old").await.unwrap();
            assert_eq!(in_ring, Err(NotForgotten::InRing));
            new.forget_key(kind, "old").await.unwrap().unwrap();
            let unknown = new.forget_key(kind, "old").await.unwrap();
            assert_eq!(unknown, Err(NotForgotten::Unknown));
            let needed = new.forget_key(kind, "new").await.unwrap();
            assert_eq!(needed, Err(NotForgotten::Needed));
        }
    })
    .await;
}
