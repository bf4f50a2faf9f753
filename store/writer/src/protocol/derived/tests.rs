use super::*;
use crate::protocol::tests::{NOW, installed};
use crate::protocol::{register, revoke};

const LIFETIME: Duration = Duration::from_secs(1000);

fn known(at: Timestamp) -> AgencyLocation {
    AgencyLocation {
        parent: "install_0000000000000000000000aa".parse().unwrap(),
        app: AppName::default(),
        client: Some("id-1".parse().unwrap()),
        company: "C".parse().unwrap(),
        location: "L".parse().unwrap(),
        at,
    }
}

fn id() -> InstallationId {
    "install_0000000000000000000000bb".parse().unwrap()
}

fn listed(current: Option<&Installation>, at: Timestamp) -> Listed {
    list_location(&id(), current, &known(at), at)
}

fn announced(current: Option<&Installation>, grant: AgencyGrant, at: Timestamp) -> Listed {
    announce_location(&id(), current, &known(at), grant, at)
}

fn new_location() -> Installation {
    match listed(None, NOW) {
        Listed::Write(next) => *next,
        other => panic!("{other:?}"),
    }
}

fn token(text: &str) -> (Registration, SealedTokens) {
    let sealed = |text: &str| Sealed::from_bytes(text.as_bytes().to_vec());
    let registration = Registration {
        app: AppName::default(),
        client: None,
        access_token: text.into(),
        refresh_token: Some("r".into()),
        expires_at: Some(NOW + LIFETIME),
        lifetime: LIFETIME,
        scopes: "s t".to_owned(),
        user_type: UserType::Location,
        location: Some("L".parse().unwrap()),
        company: Some("C".parse().unwrap()),
    };
    let tokens = SealedTokens {
        access: sealed(text),
        refresh: Some(sealed("r")),
    };
    (registration, tokens)
}

fn minted(current: Option<&Installation>, text: &str, now: Timestamp) -> Minted {
    let (registration, sealed) = token(text);
    mint(
        current,
        &id(),
        &known(now),
        text,
        (&registration, sealed),
        now,
    )
}

fn applied(current: Option<&Installation>, text: &str, now: Timestamp) -> Installation {
    match minted(current, text, now) {
        Minted::Apply(next) => *next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_location_sleeps_without_a_token_and_without_a_schedule() {
    let location = new_location();
    assert!(location.is_asleep(NOW));
    assert!(location.access.token.is_empty() && location.chain.is_none());
    assert_eq!(
        (location.wake_at(), location.access.status),
        (None, Status::Active)
    );
    assert_eq!(location.families(), [known(NOW).parent.to_string()]);
    assert_eq!(listed(Some(&location), NOW + LIFETIME), Listed::Known);
}

#[test]
fn minted_token_counts_the_generation_up_and_ends_in_sleep() {
    let first = applied(None, "a", NOW);
    assert_eq!(first.access.generation, Generation::FIRST);
    let asleep = new_location();
    let second = applied(Some(&asleep), "b", NOW);
    assert_eq!(second.access.generation, Generation::FIRST);
    assert_eq!(second.due, Some(NOW + LIFETIME));
    assert!(!second.is_asleep(NOW));
    // Early, only its place in the schedule is set.
    let early = Installation {
        due: Some(NOW),
        ..second.clone()
    };
    assert_eq!(rest(&early, NOW), Some(second.clone()));
    let later = rest(&second, NOW + LIFETIME).unwrap();
    assert!(later.access.token.is_empty());
    assert_eq!(
        (later.due, later.access.generation),
        (None, second.access.generation)
    );
    assert!(
        later.chain.is_some(),
        "the refresh token is kept for the end of the agency's grant"
    );
    assert_eq!(rest(&later, NOW + LIFETIME), None);
}

#[test]
fn uninstalled_location_gets_no_token_until_it_is_installed_again() {
    let location = applied(None, "a", NOW);
    let at = NOW + Duration::from_secs(10);
    let ended = revoke(&location, "uninstalled", at, at + LIFETIME).unwrap();
    assert_eq!(minted(Some(&ended), "b", at), Minted::Revoked);
    // The list was read before the uninstallation.
    assert_eq!(listed(Some(&ended), at), Listed::Uninstalled);
    let later = at + Duration::from_secs(1);
    let Listed::Write(again) = listed(Some(&ended), later) else {
        panic!("it is installed again");
    };
    assert!(again.is_asleep(later) && again.access.generation > location.access.generation);
}

#[test]
fn announcement_outdates_earlier_uninstallations() {
    let location = applied(None, "a", NOW);
    let at = NOW + Duration::from_secs(10);
    let Listed::Write(again) = announced(Some(&location), AgencyGrant::Works, at) else {
        panic!("the time of the installation is kept");
    };
    assert_eq!(again.access, location.access);
    assert_eq!(
        revoke(&again, "late", NOW + Duration::from_secs(9), at),
        None
    );
    assert!(revoke(&again, "new", at, at).is_some());
}

#[test]
fn announced_location_waits_for_a_consent() {
    use crate::events::{EventType, change::event_of};
    let Listed::Write(waiting) = announced(None, AgencyGrant::Missing, NOW) else {
        panic!("it is stored");
    };
    assert!(is_waiting(&waiting) && waiting.is_asleep(NOW));
    assert_eq!(event_of(None, &waiting), None);
    // A call does not change that, and GHL repeats its webhook.
    let called = fail_mint(&waiting, LastError::new("k", "m", NOW)).unwrap();
    assert!(is_waiting(&called) && mint_pause_ends(&called, NOW).is_some());
    let later = NOW + Duration::from_secs(1);
    assert_eq!(
        announced(Some(&called), AgencyGrant::Missing, later),
        Listed::Known
    );
    // The agency consents, or its token is used.
    let Listed::Write(connected) = listed(Some(&called), later) else {
        panic!("it no longer waits");
    };
    let minted = applied(Some(&called), "a", later);
    let own = installed();
    for next in [&*connected, &minted, &own] {
        assert!(!is_waiting(next));
        assert_eq!(event_of(Some(&called), next), Some(EventType::Connected));
    }
    let ended = revoke(&called, "uninstalled", later, later).unwrap();
    assert_eq!(event_of(Some(&called), &ended), None);
}

#[test]
fn announcement_without_a_grant_ends_and_revives_nothing() {
    use crate::events::{EventType, change::event_of};
    let later = NOW + Duration::from_secs(1);
    for status in [Status::Active, Status::Invalid, Status::Paused] {
        let mut own = installed();
        own.access.status = status;
        own.consented_at = NOW;
        match announced(Some(&own), AgencyGrant::Missing, later) {
            Listed::Known => {}
            Listed::Write(next) => {
                assert_eq!(next.access, own.access, "{status:?}");
                assert_eq!(event_of(Some(&own), &next), None);
            }
            Listed::Uninstalled => panic!("{status:?}"),
        }
    }
    let location = applied(None, "a", NOW);
    let ended = revoke(&location, "uninstalled", NOW, NOW).unwrap();
    let Listed::Write(waiting) = announced(Some(&ended), AgencyGrant::Missing, later) else {
        panic!("the installation is noted");
    };
    assert_eq!(event_of(Some(&ended), &waiting), None);
    let minted = applied(Some(&waiting), "b", later);
    let event = event_of(Some(&waiting), &minted);
    assert_eq!(event, Some(EventType::Reconnected));
}

#[test]
fn own_grant_of_a_location_is_kept_while_it_works() {
    let own = installed();
    assert_eq!(listed(Some(&own), NOW), Listed::Known);
    assert_eq!(minted(Some(&own), "a", NOW), Minted::Superseded);
    let mut lost = own.clone();
    lost.access.status = Status::Invalid;
    let derived = applied(Some(&lost), "a", NOW);
    assert_eq!(derived.access.parent, Some(known(NOW).parent));
    assert!(derived.access.generation > own.access.generation);
    assert_eq!(derived.installed_at, own.installed_at);
}

#[test]
fn failed_mints_pause_for_longer_and_longer() {
    let mut location = new_location();
    assert_eq!(mint_pause_ends(&location, NOW), None);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        location = fail_mint(&location, LastError::new("k", "m", NOW)).unwrap();
        pauses.push(
            mint_pause_ends(&location, NOW)
                .unwrap()
                .since(NOW)
                .as_secs(),
        );
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // The clock was set back.
    let earlier = NOW - Duration::from_secs(3600);
    let end = mint_pause_ends(&location, earlier).unwrap();
    assert_eq!(end.since(earlier).as_secs(), 60);
    let minted = applied(Some(&location), "a", NOW);
    assert_eq!(mint_pause_ends(&minted, NOW), None);
}

#[test]
fn list_of_locations_is_due_with_the_consent_and_claimed_once() {
    let (registration, sealed) = token("a");
    let registration = Registration {
        user_type: UserType::Company,
        location: None,
        ..registration
    };
    let due = Some(NOW + LIFETIME);
    let agency = register(id(), "consent", None, &registration, sealed, due, NOW);
    assert_eq!(agency.wake_at(), Some(NOW));
    assert_eq!(agency.families(), [store::keys::AGENCIES]);
    let claimed = claim_list(&agency, NOW).unwrap();
    assert_eq!(claimed.wake_at(), Some(NOW + LIST_CLAIM));
    assert_eq!(claim_list(&claimed, NOW), None);
    // A refresh comes first.
    let both = Installation {
        due: Some(NOW),
        ..agency
    };
    assert_eq!(claim_list(&both, NOW), None);
}

#[test]
fn location_that_lived_on_its_own_token_rests_whatever_its_status_is() {
    for status in [Status::Active, Status::Paused, Status::Invalid] {
        let mut location = applied(None, "a", NOW);
        location.access.status = status;
        let later = NOW + LIFETIME;
        location.due = Some(later);
        let rested = rest(&location, later).unwrap();
        assert_eq!(
            (rested.wake_at(), rested.access.status),
            (None, Status::Active),
            "{status}"
        );
        assert!(rested.is_asleep(later));
    }
}

#[test]
fn list_undoes_no_revocation_since_the_agencys_consent() {
    let location = applied(None, "a", NOW);
    let revoked = revoke(&location, "by an operator", NOW + LIFETIME, NOW + LIFETIME).unwrap();
    // A list says when the agency consented.
    assert_eq!(listed(Some(&revoked), NOW), Listed::Uninstalled);
    let failed = fail_mint(&revoked, LastError::new("k", "m", NOW));
    assert_eq!(failed, None, "the time of the revocation is kept");
}

#[test]
fn refused_own_grant_is_kept_until_a_later_consent_of_the_agency() {
    let mut own = installed();
    own.access.status = Status::Invalid;
    assert_eq!(listed(Some(&own), own.consented_at), Listed::Known);
    let later = own.consented_at + Duration::from_secs(1);
    assert!(matches!(listed(Some(&own), later), Listed::Write(_)));
}
