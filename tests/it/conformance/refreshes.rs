//! Refresh attempts: begin, commit, failure, takeover, and the schedule.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_begins_admit_one_broker() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(60)).await;
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
async fn commit_is_applied_once_and_announced() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        assert_eq!(begun.refresh_token.expose_secret(), "refresh of L1");
        let mut changes = subscribe(&store).await;
        let grant = grant_with(&store, &begun, "r2");
        let outcomes = join_all((0..8).map(|_| store.writer.commit(&grant))).await;
        let outcomes: Vec<Committed> = outcomes.into_iter().map(Result::unwrap).collect();
        let applied = |outcome: &&Committed| matches!(outcome, Committed::Applied { .. });
        assert_eq!(outcomes.iter().filter(applied).count(), 1, "{outcomes:?}");
        let duplicates = outcomes
            .iter()
            .filter(|outcome| **outcome == Committed::Duplicate);
        assert_eq!(duplicates.count(), 7);
        let generation = Generation::FIRST.next();
        until_announced(
            &mut changes,
            &Invalidation::Installation {
                id: id.clone(),
                generation,
            },
        )
        .await;
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.token.expose_secret(), "access after r2");
        assert_eq!(record.generation, generation);
        let next = next_refresh_token(&store, &id).await;
        assert_eq!(next, "r2");
    })
    .await;
}

async fn next_refresh_token(store: &Store, id: &InstallationId) -> String {
    begun(&store.writer, id)
        .await
        .refresh_token
        .expose_secret()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_responses_commit_once_and_the_rest_become_alternates() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        let grants: Vec<Grant> = (0..8)
            .map(|n| grant_with(&store, &begun, &format!("successor {n}")))
            .collect();
        let outcomes = join_all(grants.iter().map(|grant| store.writer.commit(grant))).await;
        let kept = outcomes
            .iter()
            .filter(|outcome| *outcome.as_ref().unwrap() == Committed::NotCurrent);
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
async fn refused_token_is_replaced_by_alternates_until_none_remain() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(60)).await;
        let first = begun(&store.writer, &id).await;
        for successor in ["r2", "r2 too"] {
            store
                .writer
                .commit(&grant_with(&store, &first, successor))
                .await
                .unwrap();
        }
        let refused = failure(&store, FailureClass::Refused);
        let second = begun(&store.writer, &id).await;
        let record_failure = |begun: Begun, refused: AttemptFailure| {
            let writer = store.writer.clone();
            async move {
                let id = &begun.installation;
                writer
                    .record_failure(id, &begun.link, &begun.intent, &refused)
                    .await
                    .unwrap()
            }
        };
        assert_eq!(
            record_failure(second, refused.clone()).await,
            FailureOutcome::Adopted
        );
        let third = begun(&store.writer, &id).await;
        assert_eq!(third.refresh_token.expose_secret(), "r2 too");
        let mut changes = subscribe(&store).await;
        let noted = record_failure(third, refused.clone()).await;
        assert!(
            matches!(noted, FailureOutcome::Recorded { .. }),
            "suspect: {noted:?}"
        );
        for _ in 1..REFUSALS_TO_INVALID {
            let again = begun(&store.writer, &id).await;
            let noted = record_failure(again, refused.clone()).await;
            assert!(
                matches!(noted, FailureOutcome::Recorded { .. }),
                "{noted:?}"
            );
        }
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Invalid);
        let generation = record.generation;
        until_announced(&mut changes, &Invalidation::Installation { id, generation }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_intent_is_taken_over() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(3600)).await;
        let window = Duration::from_millis(300);
        let began = begin_within(&store.writer, &id, Wanted::Now, window).await;
        assert!(matches!(began, Begin::Go(_)), "the broker dies after this");
        let (writer, app) = (&store.writer, AppName::default());
        let taken = until("the takeover", PATIENCE, || async {
            // Claims from the schedule, as another broker does.
            let claimed = writer
                .claim(
                    Schedule::OpenIntent,
                    &app,
                    DueEntries {
                        partition: id.partition(),
                        limit: 8,
                        from: None,
                        by: store.reader.now(),
                    },
                    Duration::from_millis(50),
                )
                .await
                .unwrap();
            holds(claimed == [id.clone()], claimed)?;
            match begin(writer, &id, Wanted::Due).await {
                Begin::Go(begun) => Ok(*begun),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(taken.first_spent_at.is_some(), "the token may be spent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn due_installation_is_claimed_once_until_the_claim_expires() {
    on_all(|store| async move {
        let mut ids = BTreeSet::new();
        for number in 0..40 {
            // The tokens are already expired, so they are due immediately.
            ids.insert(register(&store, &format!("L{number}"), Duration::ZERO).await);
        }
        let all_is_due = async || {
            let partitions: BTreeSet<u8> = ids.iter().map(InstallationId::partition).collect();
            let due = store
                .writer
                .poll_due(Schedule::Due, &AppName::default())
                .await
                .unwrap()
                .due;
            let due: BTreeSet<u8> = due.into_iter().map(|(partition, _)| partition).collect();
            holds(due == partitions, due)
        };
        until("all to be due", PATIENCE, &all_is_due).await;
        let claim_all = async |claim: Duration| {
            let (mut claimed, app) = (Vec::new(), AppName::default());
            for (partition, by) in store
                .writer
                .poll_due(Schedule::Due, &AppName::default())
                .await
                .unwrap()
                .due
            {
                let due = DueEntries {
                    partition,
                    limit: 2,
                    from: None,
                    by,
                };
                let racers = (0..3).map(|_| store.writer.claim(Schedule::Due, &app, due, claim));
                for racer in join_all(racers).await {
                    claimed.extend(racer.unwrap());
                }
            }
            claimed
        };
        let claim = Duration::from_secs(2);
        let claimed = claim_all(claim).await;
        let distinct: BTreeSet<InstallationId> = claimed.iter().cloned().collect();
        assert_eq!(distinct.len(), claimed.len(), "no id is claimed twice");
        assert_eq!(distinct, ids);
        until("the claims to run out", PATIENCE, &all_is_due).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reschedule_earlier_only_moves_scheduled_refreshes_forward() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(8000)).await;
        let next_in = async || {
            store
                .writer
                .poll_due(Schedule::Due, &AppName::default())
                .await
                .unwrap()
                .next_in
                .unwrap()
        };
        let planned = next_in().await;
        assert!(planned > Duration::from_secs(6000), "{planned:?}");
        let now = store.reader.now();
        store
            .writer
            .reschedule_earlier(&id, &AppName::default(), now + Duration::from_secs(9000))
            .await
            .unwrap();
        assert!(
            next_in().await > Duration::from_secs(6000),
            "not later than planned"
        );
        store
            .writer
            .reschedule_earlier(&id, &AppName::default(), now + Duration::from_secs(100))
            .await
            .unwrap();
        assert!(next_in().await <= Duration::from_secs(100) + CLOCK_SKEW);
        store.writer.reschedule(&id).await.unwrap();
        assert!(
            next_in().await > Duration::from_secs(6000),
            "back to the time in its record"
        );
        revoke(&store, &id).await;
        store
            .writer
            .reschedule_earlier(&id, &AppName::default(), now)
            .await
            .unwrap();
        let upcoming = store
            .writer
            .poll_due(Schedule::Due, &AppName::default())
            .await
            .unwrap();
        assert!(
            upcoming.due.is_empty() && upcoming.next_in.is_none(),
            "revoked installations are not scheduled"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_report_the_nearest_expiry() {
    on_all(|store| async move {
        assert_eq!(store.writer.stats().await.unwrap().nearest_expiry, None);
        let near = register(&store, "near", Duration::from_secs(100)).await;
        register(&store, "far", Duration::from_secs(5000)).await;
        let stats = store.writer.stats().await.unwrap();
        assert_eq!((stats.installations, stats.refreshing), (2, 2));
        let now = store.reader.now();
        let left = stats.nearest_expiry.unwrap().since(now);
        assert!(
            left > Duration::from_secs(90) && left <= Duration::from_secs(100) + CLOCK_SKEW,
            "{left:?}"
        );
        revoke(&store, &near).await;
        let stats = store.writer.stats().await.unwrap();
        assert_eq!((stats.installations, stats.refreshing), (2, 1));
        assert!(stats.nearest_expiry.unwrap().since(now) > Duration::from_secs(4000));
    })
    .await;
}
