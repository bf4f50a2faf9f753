//! Several apps in one store: schedules, names, and installations of one location.

use super::*;

fn staging() -> AppName {
    "staging".parse().unwrap()
}

async fn register_in(store: &Store, app: &AppName, client: &str, location: &str) -> InstallationId {
    let registration = Registration {
        app: app.clone(),
        client: Some(client.parse().unwrap()),
        ..registration(store, location, Duration::ZERO)
    };
    let registered = store.writer.register_installation(&registration).await;
    registered.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn location_has_an_installation_for_each_app() {
    on_all(|store| async move {
        let (default, staging) = (AppName::default(), staging());
        let one = register_in(&store, &default, "aaa-1", "L1").await;
        let other = register_in(&store, &staging, "bbb-1", "L1").await;
        assert_ne!(one, other);
        let both = [
            (default.clone(), one.clone()),
            (staging.clone(), other.clone()),
        ];
        assert_eq!(store.writer.resolve("L1").await.unwrap(), both);
        assert_eq!(store.reader.resolve("L1").await.unwrap(), both);
        let in_staging = store.writer.resolve_in(&staging, "L1").await.unwrap();
        assert_eq!(in_staging, Some(other.clone()));
        assert_eq!(
            store.reader.access(&other).await.unwrap().unwrap().app,
            staging
        );
        let known = store
            .writer
            .load(&other)
            .await
            .unwrap()
            .unwrap()
            .installation;
        assert_eq!(known.client.unwrap().as_str(), "bbb-1");
        let again = register_in(&store, &staging, "bbb-2", "L1").await;
        assert_eq!(
            again, other,
            "a consent with another client id renews the installation"
        );
        let known = store
            .writer
            .load(&other)
            .await
            .unwrap()
            .unwrap()
            .installation;
        assert_eq!(known.client.unwrap().as_str(), "bbb-2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_sees_and_claims_the_installations_of_its_apps_alone() {
    on_all(|store| async move {
        let (default, staging) = (AppName::default(), staging());
        let (writer, claim) = (&store.writer, Duration::from_secs(60));
        let one = register_in(&store, &default, "aaa-1", "L1").await;
        let other = register_in(&store, &staging, "bbb-1", "L1").await;
        let due_of = async |app: &AppName| {
            until("it to be due", PATIENCE, || async {
                let due = writer.poll_due(Schedule::Due, app).await.unwrap().due;
                holds(!due.is_empty(), due)?;
                let due = writer.poll_due(Schedule::Due, app).await.unwrap().due;
                Ok(due)
            })
            .await
        };
        for (app, id) in [(&default, &one), (&staging, &other)] {
            let due = due_of(app).await;
            let partitions: Vec<u8> = due.iter().map(|(partition, _)| *partition).collect();
            assert_eq!(partitions, [id.partition()]);
            assert_eq!(writer.count_due(app, due[0].1).await.unwrap(), 1);
            for partition in [one.partition(), other.partition()] {
                let entries = DueEntries {
                    partition,
                    limit: 8,
                    from: None,
                    by: due[0].1,
                };
                let claimed = writer
                    .claim(Schedule::Due, app, entries, claim)
                    .await
                    .unwrap();
                assert!(claimed.iter().all(|it| it == id), "{claimed:?}");
            }
            assert_eq!(writer.count_due(app, due[0].1).await.unwrap(), 0, "claimed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_needs_the_client_id_of_the_installation() {
    on_all(|store| async move {
        let staging = staging();
        let id = register_in(&store, &staging, "bbb-1", "L1").await;
        let knows = |names: &[&str], clients: &[&str]| KnownApps {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            clients: clients
                .iter()
                .map(|client| client.parse().unwrap())
                .collect(),
        };
        for apps in [
            knows(&["default"], &["aaa-1"]),
            // The name is the same, and the client id is another one.
            knows(&["staging"], &["bbb-2"]),
        ] {
            let began = begin_as(&store.writer, &id, Wanted::Now, (WINDOW, &apps)).await;
            assert!(matches!(began, Begin::UnknownApp), "{began:?}");
            let now = store.reader.now();
            let due = store
                .writer
                .load(&id)
                .await
                .unwrap()
                .unwrap()
                .installation
                .due;
            assert!(
                due.is_some_and(|due| due > now),
                "{due:?}: it is left alone for a while"
            );
        }
        // The earlier client id of an app may be kept under another name.
        let apps = knows(&["staging-before"], &["bbb-1"]);
        let began = begin_as(&store.writer, &id, Wanted::Now, (WINDOW, &apps)).await;
        assert!(matches!(began, Begin::Go(_)), "{began:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn name_stands_for_one_app_until_it_is_freed() {
    on_all(|store| async move {
        let (writer, staging) = (&store.writer, staging());
        let client = |text: &str| text.parse().unwrap();
        let check = async |id: &str| writer.check_app(&staging, &client(id)).await.unwrap();
        assert_eq!(check("bbb-1").await, AppIdentity::Free);
        let named = writer.name_app(&staging, &client("bbb-1")).await.unwrap();
        assert_eq!(named, AppIdentity::Same);
        assert_eq!(
            check("bbb-2").await,
            AppIdentity::Same,
            "another client id of the app"
        );
        let another = AppIdentity::Another("bbb".to_owned());
        assert_eq!(check("ccc-1").await, another);
        let named = writer.name_app(&staging, &client("ccc-1")).await.unwrap();
        assert_eq!(named, another);
        assert_eq!(writer.apps().await.unwrap().first(), Some(&staging));
        let id = register_in(&store, &staging, "bbb-1", "L1").await;
        assert!(
            !writer.free_app(&staging).await.unwrap(),
            "it has an installation"
        );
        revoke(&store, &id).await;
        assert!(writer.free_app(&staging).await.unwrap());
        assert_eq!(check("ccc-1").await, AppIdentity::Free);
    })
    .await;
}
