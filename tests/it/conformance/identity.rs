//! The store's id, and the identity of its servers.

use store_writer::identity::{FORMAT, StoreId};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_brokers_agree_on_one_store_id() {
    on_all(|store| async move {
        assert_eq!(store.writer.mark().await.unwrap(), None);
        let proposed: Vec<StoreId> = (0..8).map(|_| StoreId::random()).collect();
        let made = join_all(proposed.iter().map(|id| store.writer.make_mark(id))).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        assert!(proposed.contains(&made[0].id));
        assert_eq!(made[0].format, FORMAT);
        assert!(made.iter().all(|mark| *mark == made[0]), "{made:?}");
        let stored = store.writer.mark().await.unwrap();
        assert_eq!(stored.as_ref(), made.first());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_identity_is_stable() {
    on_all(|store| async move {
        store.writer.learn_servers().await.unwrap();
        let before = store.writer.servers().await.unwrap();
        assert!(
            before
                .as_ref()
                .is_some_and(|servers| !servers.to_string().is_empty())
        );
        register(&store, "L1", Duration::from_secs(60)).await;
        assert_eq!(store.writer.servers().await.unwrap(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_restart_is_detected_by_the_next_load() {
    let mut deployed = Deployed::start(0).await;
    let store = Store::redis(&deployed.broker_url, rings(), Lead::Auto).unwrap();
    let id = register(&store, "L1", Duration::from_secs(60)).await;
    let read = async || {
        until("the record", PATIENCE, || async {
            let read = store.writer.load(&id).await;
            read.map_err(|error| error.to_string())
        })
        .await
        .unwrap()
    };
    read().await;
    let (changes, servers) = (store.writer.server_change_count(), store.writer.servers());
    let servers = servers.await.unwrap().unwrap();
    read().await;
    assert_eq!(store.writer.server_change_count(), changes);
    deployed.store.kill().await;
    deployed.store.restart().await;
    read().await;
    assert_eq!(store.writer.server_change_count(), changes + 1);
    let restarted = store.writer.servers().await.unwrap().unwrap();
    assert!(restarted.has_another_than(&servers), "{restarted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_unknown_without_info_permission() {
    let deployed = Deployed::start(0).await;
    let operator = deployed.operator();
    let forbid = ["ACL", "SETUSER", "broker", "-info"];
    deployed.store.cli(&operator, &forbid).await;
    let store = Store::redis(&deployed.broker_url, rings(), Lead::Auto).unwrap();
    assert_eq!(store.writer.servers().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_returns_the_previous_number() {
    on_all(|store| async move {
        for (number, held) in [(1, None), (2, Some(1)), (3, Some(2))] {
            let previous = store.writer.write_canary("process", number).await.unwrap();
            assert!(
                previous.iter().all(|number| *number == Some(held)),
                "{previous:?}"
            );
        }
        let other = store.writer.write_canary("another", 9).await.unwrap();
        assert!(
            other.iter().all(|number| *number == Some(None)),
            "{other:?}"
        );
    })
    .await;
}
