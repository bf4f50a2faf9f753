//! External ids and tags: an external id names one installation of an app.

use std::collections::BTreeSet;

use store::customer::parse_tags;
use store::{Customer, ExternalId, Tag};
use store_writer::consent::{Claim, Consent, NewCustomer};
use store_writer::protocol::{AgencyGrant, AgencyLocation};
use store_writer::writer::Naming;

use super::*;

fn named(external_id: &str, claim: Claim) -> NewCustomer {
    NewCustomer {
        customer: Customer {
            external_id: Some(external_id.parse().unwrap()),
            tags: BTreeSet::new(),
        },
        claim,
        link: None,
    }
}

async fn connect(store: &Store, location: &str, customer: &NewCustomer) -> InstallationId {
    let registration = registration(store, location, Duration::from_secs(3600));
    let fresh = InstallationId::random();
    let id = store
        .writer
        .register_customer(fresh, &registration, customer);
    id.await.unwrap()
}

async fn customer(store: &Store, id: &InstallationId) -> Customer {
    let known = store.writer.load(id).await.unwrap().unwrap();
    known.installation.customer
}

/// The installation that readers find by an external id.
async fn found(store: &Store, external_id: &str) -> Vec<InstallationId> {
    let external_id: ExternalId = external_id.parse().unwrap();
    let found = store.reader.resolve(&external_id.index_name()).await;
    found.unwrap().into_iter().map(|(_, id)| id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn external_id_names_the_installation_and_stays_with_it() {
    on_all(|store| async move {
        let id = connect(&store, "L1", &named("org/7:b", Claim::Move)).await;
        assert_eq!(found(&store, "org/7:b").await, std::slice::from_ref(&id));
        let again = connect(&store, "L1", &NewCustomer::default()).await;
        assert_eq!(again, id);
        let held = customer(&store, &id).await.external_id;
        assert_eq!(held.unwrap().as_str(), "org/7:b");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_may_move_an_external_id_and_a_browser_may_not() {
    on_all(|store| async move {
        let first = connect(&store, "L1", &named("42", Claim::Move)).await;
        let second = connect(&store, "L2", &named("42", Claim::Free)).await;
        assert_eq!(found(&store, "42").await, std::slice::from_ref(&first));
        assert_eq!(customer(&store, &second).await.external_id, None);
        // Nor does a browser change the name that an installation has.
        connect(&store, "L1", &named("43", Claim::Free)).await;
        let held = customer(&store, &first).await.external_id;
        assert_eq!(held.unwrap().as_str(), "42");
        assert_eq!(found(&store, "43").await, [], "and reserves none");

        let second = connect(&store, "L2", &named("42", Claim::Move)).await;
        assert_eq!(found(&store, "42").await, std::slice::from_ref(&second));
        assert_eq!(customer(&store, &first).await.external_id, None);
        let taken = store
            .writer
            .name_customer(&AppName::default(), &"42".parse().unwrap(), &first, false)
            .await;
        assert_eq!(taken.unwrap(), Naming::Taken(second));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_that_renames_an_installation_frees_its_earlier_name() {
    on_all(|store| async move {
        let id = connect(&store, "L1", &named("42", Claim::Move)).await;
        // An installation with another id belongs to another customer, unless the caller says otherwise.
        connect(&store, "L1", &named("43", Claim::Move)).await;
        assert_eq!(found(&store, "42").await, std::slice::from_ref(&id));
        assert_eq!(found(&store, "43").await, []);
        assert_eq!(
            connect(&store, "L1", &named("43", Claim::Replace)).await,
            id
        );
        assert_eq!(found(&store, "43").await, [id]);
        assert_eq!(found(&store, "42").await, []);
        let other = connect(&store, "L2", &named("42", Claim::Free)).await;
        assert_eq!(found(&store, "42").await, [other]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_is_found_by_its_tags() {
    on_all(|store| async move {
        let id = register(&store, "L1", Duration::from_secs(3600)).await;
        let other = register(&store, "L2", Duration::from_secs(3600)).await;
        let tags = parse_tags(["vip", "größe, 2"]);
        assert!(tags.is_err());
        let vip: Tag = "vip".parse().unwrap();
        for id in [&id, &other] {
            let tags = Some([vip.clone()].into());
            store.writer.change_customer(id, None, tags).await.unwrap();
        }
        let listed = store.writer.list_tagged(&vip, None, 1).await.unwrap();
        assert_eq!(listed.len(), 1);
        let after = Some(listed[0].id());
        let rest = store.writer.list_tagged(&vip, after, 9).await.unwrap();
        let mut both = vec![listed[0].id().clone(), rest[0].id().clone()];
        both.sort_unstable();
        let mut expected = vec![id.clone(), other.clone()];
        expected.sort_unstable();
        assert_eq!(both, expected);
        let no_tags = Some(BTreeSet::new());
        store
            .writer
            .change_customer(&id, None, no_tags)
            .await
            .unwrap();
        let left = store.writer.list_tagged(&vip, None, 9).await.unwrap();
        let left: Vec<_> = left.iter().map(|listed| listed.id().clone()).collect();
        assert_eq!(left, [other]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_installation_leaves_nothing_but_its_place() {
    on_all(|store| async move {
        let id = connect(&store, "L1", &named("42", Claim::Move)).await;
        assert!(store.writer.forget(&id).await.unwrap());
        assert!(!store.writer.forget(&id).await.unwrap());
        assert!(store.writer.load(&id).await.unwrap().is_none());
        assert!(store.reader.access(&id).await.unwrap().is_none());
        assert_eq!(found(&store, "42").await, []);
        assert_eq!(store.writer.stats().await.unwrap().installations, 0);
        let end = store::Timestamp::from_millis(i64::MAX);
        let due = store.writer.count_due(&AppName::default(), end).await;
        assert_eq!(due.unwrap(), 0);
        let again = connect(&store, "L1", &named("42", Claim::Free)).await;
        assert_eq!(again, id);
        assert_eq!(found(&store, "42").await, [id]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_time_link_names_one_installation() {
    on_all(|store| async move {
        let of_link = |link: &str| NewCustomer {
            link: Some(link.to_owned()),
            ..named("42", Claim::Move)
        };
        let first = connect(&store, "L1", &of_link("one")).await;
        connect(&store, "L2", &of_link("one")).await;
        assert_eq!(found(&store, "42").await, std::slice::from_ref(&first));
        connect(&store, "L1", &of_link("one")).await;
        let second = connect(&store, "L2", &of_link("another")).await;
        assert_eq!(found(&store, "42").await, [second]);
        assert_eq!(customer(&store, &first).await.external_id, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_counts_after_a_webhook_that_is_dated_later() {
    on_all(|store| async move {
        let asked_at = store.reader.now();
        let known = AgencyLocation {
            parent: InstallationId::random(),
            app: AppName::default(),
            client: None,
            company: "agency".parse().unwrap(),
            location: "L1".parse().unwrap(),
            at: asked_at + Duration::from_secs(2),
        };
        let announced = store
            .writer
            .announce_location(&known, AgencyGrant::Works)
            .await
            .unwrap();
        let registration = registration(&store, "L1", Duration::from_secs(3600));
        let consent = Consent::new(asked_at, registration, named("42", Claim::Move));
        let id = store.writer.register_consent(&consent).await.unwrap();
        assert_eq!(id, announced.0);
        let known = store.writer.load(&id).await.unwrap().unwrap().installation;
        assert_eq!(known.access.parent, None, "it has its own grant");
        assert_eq!(found(&store, "42").await, std::slice::from_ref(&id));
        // A later consent counts more.
        let link = known.link();
        let later = Consent {
            fresh: InstallationId::random(),
            ..consent
        };
        store.writer.register_consent(&later).await.unwrap();
        let known = store.writer.load(&id).await.unwrap().unwrap().installation;
        assert_eq!(known.link(), link);
    })
    .await;
}
