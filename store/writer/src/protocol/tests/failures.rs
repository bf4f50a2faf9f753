//! Attempts that get no token.

use super::*;

#[test]
fn unknown_outcome_leaves_an_ended_intent_until_it_is_known() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let later = NOW + Duration::from_secs(1);
    assert_eq!(lost_response(&first, later), None);
    assert_eq!(
        lost_response(&open, later),
        None,
        "its response may still arrive"
    );
    let lost = Some((link.clone(), NOW));
    assert_eq!(
        lost_response(&open, NOW + WINDOW),
        lost,
        "the outcome is unknown"
    );
    let FailureDecision::Apply(unknown) = record_failure(
        &open,
        &link,
        &mine.id,
        &failure(FailureClass::Unknown),
        later,
    ) else {
        panic!("not applied");
    };
    assert_eq!(lost_response(&unknown, later), lost);
    let mut ended = unknown.clone();
    ended.access.status = Status::Revoked;
    assert_eq!(lost_response(&ended, later), None);
    assert_eq!(unknown.due, Some(later + Duration::from_secs(1)));
    let second = intent("b2", later);
    let (taken, _) = begun(&unknown, second.clone(), later);
    assert_eq!(lost_response(&taken, later), lost, "during a retry, too");
    // The retry was not sent, so the outcome of the first attempt is still unknown.
    let FailureDecision::Apply(still) = record_failure(
        &taken,
        &link,
        &second.id,
        &failure(FailureClass::Unspent),
        later,
    ) else {
        panic!("not applied");
    };
    assert_eq!(still.intent.map(|open| open.first_spent_at), Some(NOW));
}

#[test]
fn unspent_token_is_retried_later() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let FailureDecision::Apply(next) =
        record_failure(&open, &link, &mine.id, &failure(FailureClass::Unspent), NOW)
    else {
        panic!("not applied");
    };
    assert_eq!((next.intent, next.failures), (None, 1));
    assert_eq!(next.access.status, Status::Active);
}

#[test]
fn failure_is_ignored_after_the_chain_moved_on() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let refused_again = failure(FailureClass::Refused);
    let outcome = record_failure(&second, &link, &mine.id, &refused_again, NOW);
    assert_eq!(outcome, FailureDecision::Superseded);
    let (taken, _) = begun(&open, intent("b2", NOW + WINDOW), NOW + WINDOW);
    let outcome = record_failure(&taken, &link, &mine.id, &refused_again, NOW + WINDOW);
    assert_eq!(outcome, FailureDecision::Superseded);
}

#[test]
fn alternate_is_adopted_before_an_installation_becomes_invalid() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let late = grant(&first, link, "r2-other");
    let Commit::AddAlternate(with_alternate) = committed(&second, &late) else {
        panic!("no alternate");
    };
    let mine = intent("b1", NOW);
    let (open, refused) = begun(&with_alternate, mine.clone(), NOW);
    let outcome = record_failure(
        &open,
        &refused,
        &mine.id,
        &failure(FailureClass::Refused),
        NOW,
    );
    assert_eq!(outcome, FailureDecision::Adopt(late.fingerprint()));
    let adopted = adopt(&open, &refused, &late, tokens(&late), NOW).unwrap();
    assert_eq!(adopted.link().unwrap().fingerprint, late.fingerprint());
    assert!(adopted.alternates.is_empty());
    assert!(adopted.access.generation > with_alternate.access.generation);
}

#[test]
fn alternate_added_to_an_invalid_installation_is_tried() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let mine = intent("b1", NOW);
    let (open, refused) = begun(&almost_invalid(second), mine.clone(), NOW);
    let refused_again = failure(FailureClass::Refused);
    let FailureDecision::Apply(invalid) =
        record_failure(&open, &refused, &mine.id, &refused_again, NOW)
    else {
        panic!("not applied");
    };
    let late = grant(&first, link, "r2-other");
    let Commit::AddAlternate(revived) = committed(&invalid, &late) else {
        panic!("no alternate");
    };
    assert_eq!(
        (revived.access.status, revived.due),
        (Status::Active, Some(NOW))
    );
    let (open, refused) = begun(&revived, mine.clone(), NOW);
    let outcome = record_failure(&open, &refused, &mine.id, &refused_again, NOW);
    assert_eq!(outcome, FailureDecision::Adopt(late.fingerprint()));
}

#[test]
fn revoked_installation_stays_revoked_until_a_new_consent() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let revoked = revoke(&open, "uninstalled", NOW, NOW).unwrap();
    let late = applied(&revoked, &grant(&first, link, "r2"));
    assert_eq!((late.access.status, late.due), (Status::Revoked, None));
}

#[test]
fn one_refusal_makes_an_installation_suspect_and_keeps_its_token_in_use() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let outcome = record_failure(&open, &link, &mine.id, &failure(FailureClass::Refused), NOW);
    let FailureDecision::Apply(suspect) = outcome else {
        panic!("not applied");
    };
    assert!(suspect.is_suspect());
    assert_eq!(suspect.access.status, Status::Active);
    assert_eq!(suspect.due, Some(NOW + Duration::from_secs(10)));
    let (open, link) = begun(&suspect, intent("b1", NOW), NOW);
    let recovered = applied(&open, &grant(&suspect, link, "r2"));
    assert!(!recovered.is_suspect());
}

#[test]
fn widespread_refusal_never_makes_an_installation_invalid() {
    let mut current = installed();
    for _ in 0..5 {
        let mine = intent("b1", NOW);
        let (open, link) = begun(&current, mine.clone(), NOW);
        let outcome = record_failure(
            &open,
            &link,
            &mine.id,
            &failure(FailureClass::WidespreadRefusal),
            NOW,
        );
        let FailureDecision::Apply(suspect) = outcome else {
            panic!("not applied");
        };
        assert!(suspect.is_suspect());
        assert_eq!(suspect.access.status, Status::Active);
        assert_eq!(suspect.due, Some(NOW + Duration::from_secs(60)));
        current = *suspect;
    }
}

#[test]
fn forced_attempt_may_try_an_invalid_installation() {
    let mut invalid = installed();
    invalid.access.status = Status::Invalid;
    let forced = Attempt {
        may_try_invalid: true,
        ..attempt(intent("b1", NOW))
    };
    assert!(matches!(begin(&invalid, forced, NOW), Begin::Go { .. }));
}
