//! Installations: lookup, listing, status, revocation, and encryption at rest.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn registered_installation_can_be_read_and_resolved() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(3600)).await;
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.token.expose_secret(), "access of L1");
        assert_eq!(
            (record.status, record.generation),
            (Status::Active, Generation::FIRST)
        );
        assert_eq!(record.scopes, "contacts.readonly");
        let of_default = [(AppName::default(), id)];
        assert_eq!(store.reader.resolve("L1").await.unwrap(), of_default);
        assert_eq!(store.writer.resolve("L1").await.unwrap(), of_default);
        assert_eq!(store.reader.resolve("L2").await.unwrap(), []);
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
async fn concurrent_consents_of_one_location_share_an_installation() {
    on_all(|store| async move {
        let registrations = (0..16).map(|_| register(&store, "L1", Duration::from_secs(60)));
        let ids: BTreeSet<InstallationId> = join_all(registrations).await.into_iter().collect();
        assert_eq!(ids.len(), 1);
        let id = ids.first().unwrap();
        let snapshot = store.writer.load(id).await.unwrap().unwrap();
        let generation = snapshot.installation.access.generation;
        assert_eq!(
            generation.to_string(),
            "16",
            "every consent increments the generation"
        );
        assert_eq!(store.writer.stats().await.unwrap().installations, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_is_announced_and_consent_reactivates() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(60)).await;
        let mut changes = subscribe(&store).await;
        revoke(&store, &id).await;
        let generation = Generation::FIRST;
        until_announced(
            &mut changes,
            &Invalidation::Installation {
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
        assert_eq!(register(&store, "L1", Duration::from_secs(60)).await, id);
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Active);
        assert!(record.generation > generation, "cached copies are older");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_pages_are_complete_and_ordered() {
    on_all(|store| async move {
        let mut ids = BTreeSet::new();
        for number in 0..300 {
            ids.insert(register(&store, &format!("L{number}"), Duration::from_secs(60)).await);
        }
        let mut listed = Vec::new();
        loop {
            let page = store.writer.list(listed.last(), 70).await.unwrap();
            listed.extend(page.iter().map(|one| one.id().clone()));
            if page.len() < 70 {
                break;
            }
        }
        assert_eq!(listed, ids.into_iter().collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_token_is_never_due_for_refresh() {
    on_all(|store| async move {
        let registration = Registration {
            refresh_token: None,
            expires_at: None,
            ..registration(&store, "L1", Duration::ZERO)
        };
        let id = store
            .writer
            .register_installation(&registration)
            .await
            .unwrap();
        let record = store.reader.access(&id).await.unwrap().unwrap();
        assert_eq!((record.status, record.expires_at), (Status::Static, None));
        let upcoming = store
            .writer
            .poll_due(Schedule::Due, &AppName::default())
            .await
            .unwrap();
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
async fn tokens_are_encrypted_at_rest() {
    let scratch = Scratch::new();
    let server = Redis::start().await;
    let url = SecretString::from(server.url());
    let redis = Store::redis(&url, rings(), Lead::Auto).unwrap();
    let embedded = Store::embedded(scratch.path(), rings(), Lead::Auto).unwrap();
    let places = [server.data_dir(), scratch.path().to_owned()];
    for (store, directory) in [&redis, &embedded].into_iter().zip(places) {
        let id = register(store, "L1", Duration::from_secs(60)).await;
        let begun = begun(&store.writer, &id).await;
        store
            .writer
            .commit(&grant_with(store, &begun, "r2"))
            .await
            .unwrap();
        store
            .writer
            .commit(&grant_with(store, &begun, "r2 too"))
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
