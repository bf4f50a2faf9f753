//! The lists of sealing keys.

use store::key_list::{KeyCheck, WrongRing};
use store_writer::sealing::KeysError;

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
