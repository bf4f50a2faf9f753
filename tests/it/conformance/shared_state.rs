//! State that brokers share, and API keys.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn consent_state_is_single_use() {
    on_all(|store| async move {
        let users = join_all((0..8).map(|_| store.writer.use_consent_state("state"))).await;
        let first = users
            .into_iter()
            .filter(|first| *first.as_ref().unwrap())
            .count();
        assert_eq!(first, 1);
        assert!(store.writer.use_consent_state("another").await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_closes_after_its_pause() {
    on_all(|store| async move {
        let pause = Duration::from_millis(200);
        let open = || store.writer.open_breaker(CREDENTIALS, "refused", pause);
        assert!(open().await.unwrap());
        assert!(!open().await.unwrap(), "only the first caller opens it");
        let reason = store.writer.breaker(CREDENTIALS).await.unwrap();
        assert_eq!(reason.as_deref(), Some("refused"));
        until("the breaker to close", PATIENCE, || async {
            let reason = store.writer.breaker(CREDENTIALS).await.unwrap();
            holds(reason.is_none(), reason)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_accepted_credentials_are_each_recorded_once() {
    on_all(|store| async move {
        let writer = &store.writer;
        writer
            .open_breaker(CREDENTIALS, "refused", PATIENCE)
            .await
            .unwrap();
        assert!(
            writer
                .record_refused_credentials(CREDENTIALS, "refused")
                .await
                .unwrap()
        );
        assert!(
            !writer
                .record_refused_credentials(CREDENTIALS, "refused again")
                .await
                .unwrap()
        );
        let reason = writer.refused_credentials(CREDENTIALS).await.unwrap();
        assert_eq!(reason.as_deref(), Some("refused"));
        // Without its event the refusal is recorded once more, and refreshes pause until then.
        let forgotten = writer.forget_refused_credentials(CREDENTIALS).await;
        assert!(forgotten.unwrap());
        assert!(writer.breaker(CREDENTIALS).await.unwrap().is_some());
        let again = writer.record_refused_credentials(CREDENTIALS, "refused");
        assert!(again.await.unwrap());

        assert!(
            writer
                .record_accepted_credentials(CREDENTIALS, "refused")
                .await
                .unwrap()
        );
        assert_eq!(writer.refused_credentials(CREDENTIALS).await.unwrap(), None);
        assert_eq!(
            writer.breaker(CREDENTIALS).await.unwrap(),
            None,
            "the breaker is closed"
        );

        // A pause for another reason is not ended.
        writer
            .open_breaker(CREDENTIALS, "overloaded", PATIENCE)
            .await
            .unwrap();
        assert!(
            !writer
                .record_accepted_credentials(CREDENTIALS, "refused")
                .await
                .unwrap()
        );
        assert!(writer.breaker(CREDENTIALS).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_is_found_by_hash_until_revoked() {
    on_all(|store| async move {
        let caller = Caller {
            name: "crm".to_owned(),
            scopes: vec![Scope::Proxy],
            app: None,
            installations: None,
            calls: Some(vec!["GET /contacts/*".parse().unwrap()]),
            quota: Some("100/10s".parse().unwrap()),
            created_at: store.reader.now(),
            expires_at: None,
            revoked_at: None,
        };
        let key = store.writer.create_caller(&caller).await.unwrap();
        let hash = KeyHash::of(key.expose_secret());
        assert_eq!(store.reader.caller(&hash).await.unwrap(), Some(caller));
        let mut changes = subscribe(&store).await;
        let now = store.reader.now();
        assert!(store.writer.revoke_caller(&hash, now).await.unwrap());
        until_announced(&mut changes, &Invalidation::Caller(hash)).await;
        let revoked = store.reader.caller(&hash).await.unwrap().unwrap();
        assert!(!revoked.is_live(now));
        assert_eq!(store.writer.callers().await.unwrap().len(), 1);
    })
    .await;
}
