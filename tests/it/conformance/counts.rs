//! Counts of all installations, and the mark of a refresh that another broker began.

use store_writer::writer::{AtRisk, Backlog, State, StateCount};

use super::*;

/// Counts all states, one record at a time.
async fn count_states(store: &Store) -> Vec<(State, u64)> {
    let (mut count, now) = (StateCount::default(), store.reader.now());
    for partition in 0..=u8::MAX {
        let mut from = 0;
        loop {
            let page = (from, 1);
            let read = store
                .writer
                .count_states(&mut count, partition, page, now)
                .await
                .unwrap();
            if read == 0 {
                break;
            }
            from += read;
        }
    }
    let counts = State::ALL.map(|state| (state, count.of(state)));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_are_counted_by_state() {
    on_all(|store| async move {
        assert_eq!(count_states(&store).await, []);
        let hour = Duration::from_secs(3600);
        register(&store, "valid", hour).await;
        register(&store, "valid-too", hour).await;
        let suspect = register(&store, "suspect", hour).await;
        let begun = begun(&store.writer, &suspect).await;
        let refused = failure(&store, FailureClass::Refused);
        store
            .writer
            .record_failure(&suspect, &begun.link, &begun.intent, &refused)
            .await
            .unwrap();
        let revoked = register(&store, "revoked", hour).await;
        revoke(&store, &revoked).await;
        let expected = [(State::Valid, 2), (State::Suspect, 1), (State::Revoked, 1)];
        assert_eq!(count_states(&store).await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_how_soon_they_expire() {
    on_all(|store| async move {
        let seconds = Duration::from_secs;
        for (location, lifetime) in [("a", 1), ("b", 50), ("c", 200), ("d", 250), ("e", 4000)] {
            register(&store, location, seconds(lifetime)).await;
        }
        let expected = AtRisk {
            expired: 1,
            in_a_minute: 1,
            in_five_minutes: 2,
        };
        until("one to have expired", PATIENCE, || async {
            let now = store.reader.now();
            let found = store.writer.count_at_risk(now).await.unwrap();
            holds(found == expected, found)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn due_installations_are_the_backlog_until_they_are_claimed() {
    on_all(|store| async move {
        let (writer, app) = (&store.writer, AppName::default());
        let id = register(&store, "due", Duration::from_secs(4000)).await;
        register(&store, "later", Duration::from_secs(4000)).await;
        let soon = store.reader.now() + CLOCK_SKEW;
        assert_eq!(
            writer.backlog(&app, soon).await.unwrap(),
            Backlog::default()
        );
        let since = store.reader.now() - Duration::from_secs(7);
        writer.reschedule_earlier(&id, &app, since).await.unwrap();
        let backlog = Backlog {
            due: 1,
            oldest: Some(since),
        };
        assert_eq!(writer.backlog(&app, soon).await.unwrap(), backlog);
        let due = writer.poll_due(Schedule::Due, &app).await.unwrap().due;
        for due in DueEntries::by_partition(&due) {
            writer.claim(Schedule::Due, &app, due, TTL).await.unwrap();
        }
        assert_eq!(
            writer.backlog(&app, soon).await.unwrap(),
            Backlog::default()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_that_another_broker_began_is_a_takeover() {
    on_all(|store| async move {
        let id = register(&store, "a", Duration::from_secs(3600)).await;
        // The window is over at once.
        let known = (Duration::from_millis(1), &default_app());
        for (holder, is_takeover) in [("one", false), ("one", false), ("two", true)] {
            until("the attempt to begin", PATIENCE, || async {
                match begin_by(&store.writer, &id, holder, Wanted::Now, known).await {
                    Begin::Go(begun) => {
                        assert_eq!(begun.is_takeover, is_takeover, "{holder}");
                        Ok(())
                    }
                    other => holds(false, other),
                }
            })
            .await;
        }
    })
    .await;
}
