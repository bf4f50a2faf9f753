use std::time::Duration;

use store::{AppName, InstallationId, Timestamp, UserType};

use super::*;
use crate::grant::{Fingerprint, Registration};
use crate::protocol::{SealedTokens, register};
use store::seal::Sealed;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn installed(consent: &str) -> Installation {
    let lifetime = Duration::from_secs(3600);
    let registration = Registration {
        app: AppName::default(),
        client: None,
        access_token: "a".into(),
        refresh_token: Some("r".into()),
        expires_at: Some(NOW + lifetime),
        lifetime,
        scopes: String::new(),
        user_type: UserType::Location,
        location: Some("L".parse().unwrap()),
        company: None,
    };
    let sealed = || Sealed::from_bytes(b"sealed".to_vec());
    let tokens = SealedTokens {
        access: sealed(),
        refresh: Some(sealed()),
    };
    let id: InstallationId = "install_000000000000000000000001".parse().unwrap();
    register(id, consent, None, &registration, tokens, Some(NOW), NOW)
}

fn with(status: Status) -> Installation {
    let mut installation = installed("first");
    installation.access.status = status;
    installation
}

#[test]
fn each_change_of_status_has_its_event() {
    use Status::{Active, Invalid, Paused, Revoked, Static};
    let expected = [
        (Active, Invalid, Some(EventType::NeedsConsent)),
        (Active, Paused, Some(EventType::Paused)),
        (Active, Revoked, Some(EventType::Uninstalled)),
        (Paused, Active, Some(EventType::Resumed)),
        (Paused, Invalid, Some(EventType::NeedsConsent)),
        (Paused, Revoked, Some(EventType::Uninstalled)),
        (Invalid, Active, Some(EventType::Recovered)),
        (Invalid, Paused, Some(EventType::Paused)),
        (Invalid, Revoked, Some(EventType::Uninstalled)),
        (Revoked, Active, Some(EventType::Reconnected)),
        (Revoked, Paused, Some(EventType::Reconnected)),
        (Revoked, Static, Some(EventType::Reconnected)),
        (Active, Active, None),
        (Invalid, Invalid, None),
        (Revoked, Revoked, None),
        (Paused, Paused, None),
    ];
    for (before, after, event) in expected {
        let told = event_of(Some(&with(before)), &with(after));
        assert_eq!(told, event, "{before:?} → {after:?}");
    }
}

#[test]
fn new_installation_is_connected_unless_it_has_ended() {
    for (status, event) in [
        (Status::Active, Some(EventType::Connected)),
        (Status::Static, Some(EventType::Connected)),
        (Status::Revoked, None),
    ] {
        assert_eq!(event_of(None, &with(status)), event);
    }
}

#[test]
fn new_consent_reconnects_whatever_the_status_was() {
    let again = installed("second");
    for status in [
        Status::Active,
        Status::Paused,
        Status::Invalid,
        Status::Revoked,
    ] {
        let told = event_of(Some(&with(status)), &again);
        assert_eq!(told, Some(EventType::Reconnected), "{status:?}");
    }
}

#[test]
fn refresh_and_mint_are_no_news() {
    let before = installed("first");
    let mut refreshed = before.clone();
    refreshed.access.generation = refreshed.access.generation.next();
    refreshed.chain.as_mut().unwrap().fingerprint = Fingerprint::of(&"r2".into());
    assert_eq!(event_of(Some(&before), &refreshed), None);

    let parent = InstallationId::random();
    let mut location = before;
    location.access.parent = Some(parent.clone());
    let mut minted = installed("of the mint");
    minted.access.parent = Some(parent);
    assert_eq!(event_of(Some(&location), &minted), None);
}

#[test]
fn consent_of_a_location_that_a_webhook_connected_is_news_only_with_an_external_id() {
    let mut announced = with(Status::Active);
    announced.access.parent = Some(InstallationId::random());
    announced.chain = None;
    let mut own = installed("own");
    assert_eq!(event_of(Some(&announced), &own), None);
    own.customer.external_id = Some("42".parse().unwrap());
    assert_eq!(event_of(Some(&announced), &own), Some(EventType::Connected));
}

#[test]
fn location_that_falls_asleep_has_recovered_only_with_its_agency() {
    for (status, event) in [
        (Status::Invalid, EventType::Recovered),
        (Status::Paused, EventType::Resumed),
    ] {
        // It lived on its own refresh token, which it leaves alone once its agency works.
        let mut before = with(status);
        before.access.parent = Some(InstallationId::random());
        let mut asleep = before.clone();
        asleep.access.status = Status::Active;
        asleep.access.token = Sealed::from_bytes(Vec::new());
        assert_eq!(event_of(Some(&before), &asleep), Some(event));
        before.chain = None;
        assert_eq!(event_of(Some(&before), &asleep), None);
        // The agency has consented again.
        asleep.consented_at = NOW + Duration::from_secs(1);
        assert_eq!(event_of(Some(&before), &asleep), Some(event));
    }
}

#[test]
fn own_consent_of_a_paused_location_of_an_agency_reconnects_it() {
    let mut paused = with(Status::Paused);
    paused.access.parent = Some(InstallationId::random());
    let own = installed("own");
    assert_eq!(event_of(Some(&paused), &own), Some(EventType::Reconnected));
}

#[test]
fn import_is_no_consent() {
    let before = installed("first");
    let imported = installed(&protocol::import_consent(&Fingerprint::of(&"r2".into())));
    assert_eq!(event_of(Some(&before), &imported), None);
    assert_eq!(
        event_of(Some(&with(Status::Invalid)), &imported),
        Some(EventType::Recovered)
    );
}

#[test]
fn plan_tags_and_other_facts_are_told_apart() {
    let told = |plan: &str, company: &str| {
        let mut installation = installed("first");
        let facts = [("planId", plan), ("companyName", company)];
        let facts = facts.map(|(name, fact)| (name.to_owned(), fact.to_owned()));
        installation.details = Some(Details {
            at: NOW,
            facts: facts.into(),
        });
        installation
    };
    let before = told("p1", "Northwind");
    let event = |after: &Installation| event_of(Some(&before), after);
    assert_eq!(
        event(&told("p2", "Northwind")),
        Some(EventType::PlanChanged)
    );
    assert_eq!(event(&told("p1", "Contoso")), Some(EventType::Updated));
    assert_eq!(event(&told("p1", "Northwind")), None);
    let mut tagged = told("p1", "Northwind");
    tagged.customer.tags.insert("vip".parse().unwrap());
    assert_eq!(event(&tagged), Some(EventType::Updated));
    let first_told = event_of(Some(&installed("first")), &before);
    assert_eq!(
        first_told,
        Some(EventType::Updated),
        "the first plan is no change of plan"
    );
}
