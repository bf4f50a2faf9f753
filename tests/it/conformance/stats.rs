//! Numbers for the overview.

use std::collections::BTreeMap;

use store::Timestamp;
use store_writer::writer::{Bucket, FleetCount, NamedCounts, StateCount};

use super::*;

fn counts(of: &[(&str, u64)]) -> NamedCounts {
    of.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

/// So many buckets after now.
fn bucket(store: &Store, after: u32) -> Bucket {
    Bucket::of(store.reader.now() + Bucket::LENGTH * after)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_add_up_in_their_buckets() {
    on_all(|store| async move {
        let (writer, now) = (&store.writer, bucket(&store, 1000));
        let before = Bucket::of(now.begin() - Bucket::LENGTH);
        let empty = writer.counts(now).await.unwrap();
        assert_eq!(empty, vec![NamedCounts::new(); Bucket::DAY as usize]);
        let some = counts(&[("refreshed", 2), ("own", 1)]);
        writer.add_counts(before, some).await.unwrap();
        let more = counts(&[("refreshed", 40)]);
        writer.add_counts(before, more).await.unwrap();
        let last = counts(&[("forwarded", u64::from(u32::MAX))]);
        writer.add_counts(now, last.clone()).await.unwrap();
        writer.add_counts(now, NamedCounts::new()).await.unwrap();
        let day = writer.counts(now).await.unwrap();
        assert_eq!(day.len(), 288);
        assert_eq!(day[286], counts(&[("refreshed", 42), ("own", 1)]));
        assert_eq!(day[287], last);
        assert!(day[..286].iter().all(NamedCounts::is_empty));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_additions_lose_nothing() {
    on_all(|store| async move {
        let now = bucket(&store, 0);
        let additions = (0..50).map(|_| {
            let one = counts(&[("forwarded", 1)]);
            store.writer.add_counts(now, one)
        });
        for added in join_all(additions).await {
            added.unwrap();
        }
        let day = store.writer.counts(now).await.unwrap();
        assert_eq!(day[287], counts(&[("forwarded", 50)]));
    })
    .await;
}

/// Redis expires them, which takes more than a day.
#[tokio::test(flavor = "multi_thread")]
async fn file_forgets_counts_of_more_than_a_day_ago() {
    let scratch = Scratch::new();
    let store = Store::embedded(scratch.path(), rings(), Lead::Auto).unwrap();
    let (writer, now) = (&store.writer, bucket(&store, 0));
    let id = register(&store, "stays", Duration::from_secs(3600)).await;
    writer
        .add_counts(now, counts(&[("refreshed", 7)]))
        .await
        .unwrap();
    for (after, left) in [(1, 1), (Bucket::DAY, 1), (Bucket::DAY + 1, 0)] {
        let later = Bucket::of(now.begin() + Bucket::LENGTH * after);
        writer
            .add_counts(later, counts(&[("refreshed", 1)]))
            .await
            .unwrap();
        let day = writer.counts(now).await.unwrap();
        let kept = day.iter().filter(|counts| !counts.is_empty()).count();
        assert_eq!(kept, left, "{after}");
    }
    assert!(writer.load(&id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_noted_and_forgotten_where_several_use_the_store() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert_eq!(writer.seen().await.unwrap(), []);
        writer.note_seen(Vec::new(), Vec::new()).await.unwrap();
        let entry = |name: &str, json: &str| (name.to_owned(), json.to_owned());
        let both = vec![entry("broker:a", "1"), entry("gateway:b", "2")];
        writer.note_seen(both, Vec::new()).await.unwrap();
        let gone = vec!["gateway:b".to_owned(), "unknown".to_owned()];
        let later = vec![entry("broker:a", "3")];
        writer.note_seen(later.clone(), gone).await.unwrap();
        let expected = match writer.file() {
            Some(_) => Vec::new(),
            None => later,
        };
        assert_eq!(writer.seen().await.unwrap(), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_count_of_all_installations_is_shared() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert_eq!(writer.fleet_count().await.unwrap(), None);
        for at in [1_000, 2_000] {
            let (at, states) = (Timestamp::from_millis(at), StateCount::default());
            let count = FleetCount { at, states };
            writer.share_fleet_count(&count).await.unwrap();
            assert_eq!(writer.fleet_count().await.unwrap(), Some(count));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soonest_expiries_come_first() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert_eq!(writer.soonest_expiries(3).await.unwrap(), []);
        let mut ids = BTreeMap::new();
        for minutes in [50, 10, 40, 20, 30] {
            let lifetime = Duration::from_secs(60 * minutes);
            let id = register(&store, &format!("l{minutes}"), lifetime).await;
            ids.insert(minutes, id);
        }
        // One that is not refreshed is of no interest.
        revoke(&store, &ids[&10]).await;
        let soonest = writer.soonest_expiries(3).await.unwrap();
        let expected = [20, 30, 40].map(|minutes| ids[&minutes].clone());
        let found: Vec<InstallationId> = soonest.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(found, expected);
        assert!(soonest.is_sorted_by_key(|(_, at)| *at));
    })
    .await;
}
