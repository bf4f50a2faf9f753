//! Attempts that bring no token.

use super::*;

#[test]
fn an_unknown_outcome_stays_open_and_over_until_it_is_known() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let later = NOW + Duration::from_secs(1);
    assert_eq!(in_doubt(&first, later), None);
    assert_eq!(in_doubt(&open, later), None, "its answer may come");
    let doubt = Some((link.clone(), NOW));
    assert_eq!(in_doubt(&open, NOW + WINDOW), doubt, "nobody says");
    let Give::Apply(unknown) = give_back(&open, &link, &mine.id, &verdict(Refusal::Unknown), later)
    else {
        panic!("not applied");
    };
    assert_eq!(in_doubt(&unknown, later), doubt);
    let mut ended = unknown.clone();
    ended.access.status = Status::Revoked;
    assert_eq!(in_doubt(&ended, later), None);
    assert_eq!(unknown.due, Some(later + Duration::from_secs(1)));
    let second = intent("b2", later);
    let (taken, _) = begun(&unknown, second.clone(), later);
    assert_eq!(in_doubt(&taken, later), doubt, "while it is asked for, too");
    // The repeat could not even be sent: the first attempt is no better known for that.
    let Give::Apply(still) =
        give_back(&taken, &link, &second.id, &verdict(Refusal::Unspent), later)
    else {
        panic!("not applied");
    };
    assert_eq!(still.intent.map(|open| open.first_spent_at), Some(NOW));
}

#[test]
fn an_unspent_token_is_simply_tried_again_later() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let Give::Apply(next) = give_back(&open, &link, &mine.id, &verdict(Refusal::Unspent), NOW)
    else {
        panic!("not applied");
    };
    assert_eq!((next.intent, next.failures), (None, 1));
    assert_eq!(next.access.status, Status::Active);
}

#[test]
fn a_refusal_that_comes_after_somebody_else_moved_on_is_old_news() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let refused_again = verdict(Refusal::Refused);
    let outcome = give_back(&second, &link, &mine.id, &refused_again, NOW);
    assert_eq!(outcome, Give::Superseded);
    let (taken, _) = begun(&open, intent("b2", NOW + WINDOW), NOW + WINDOW);
    let outcome = give_back(&taken, &link, &mine.id, &refused_again, NOW + WINDOW);
    assert_eq!(outcome, Give::Superseded);
}

#[test]
fn a_kept_token_is_tried_before_an_installation_is_given_up() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let late = grant(&first, link, "r2-other");
    let Commit::Keep(keeper) = committed(&second, &late) else {
        panic!("not kept");
    };
    let mine = intent("b1", NOW);
    let (open, refused) = begun(&keeper, mine.clone(), NOW);
    let outcome = give_back(&open, &refused, &mine.id, &verdict(Refusal::Refused), NOW);
    assert_eq!(outcome, Give::Adopt(late.fingerprint()));
    let adopted = adopt(&open, &refused, &late, tokens(&late), NOW).unwrap();
    assert_eq!(adopted.link().unwrap().fingerprint, late.fingerprint());
    assert!(adopted.alternates.is_empty());
    assert!(adopted.access.generation > keeper.access.generation);
}

#[test]
fn a_token_that_is_kept_after_an_installation_was_given_up_is_tried() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let mine = intent("b1", NOW);
    let (open, refused) = begun(&almost_invalid(second), mine.clone(), NOW);
    let refused_again = verdict(Refusal::Refused);
    let Give::Apply(dead) = give_back(&open, &refused, &mine.id, &refused_again, NOW) else {
        panic!("not applied");
    };
    let late = grant(&first, link, "r2-other");
    let Commit::Keep(revived) = committed(&dead, &late) else {
        panic!("not kept");
    };
    assert_eq!(
        (revived.access.status, revived.due),
        (Status::Active, Some(NOW))
    );
    let (open, refused) = begun(&revived, mine.clone(), NOW);
    let outcome = give_back(&open, &refused, &mine.id, &refused_again, NOW);
    assert_eq!(outcome, Give::Adopt(late.fingerprint()));
}

#[test]
fn revoked_stays_revoked_until_the_customer_consents() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let revoked = revoke(&open, "uninstalled", NOW, NOW).unwrap();
    let late = applied(&revoked, &grant(&first, link, "r2"));
    assert_eq!((late.access.status, late.due), (Status::Revoked, None));
}

#[test]
fn one_refusal_makes_an_installation_suspect_and_its_token_goes_on_serving() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let outcome = give_back(&open, &link, &mine.id, &verdict(Refusal::Refused), NOW);
    let Give::Apply(suspect) = outcome else {
        panic!("not applied");
    };
    assert!(suspect.is_suspect());
    assert_eq!(suspect.access.status, Status::Active);
    assert_eq!(suspect.due, Some(NOW + Duration::from_secs(10)));
    let (open, link) = begun(&suspect, intent("b1", NOW), NOW);
    let healed = applied(&open, &grant(&suspect, link, "r2"));
    assert!(!healed.is_suspect());
}

#[test]
fn a_doubted_refusal_never_makes_an_installation_invalid() {
    let mut current = installed();
    for _ in 0..5 {
        let mine = intent("b1", NOW);
        let (open, link) = begun(&current, mine.clone(), NOW);
        let outcome = give_back(&open, &link, &mine.id, &verdict(Refusal::Doubted), NOW);
        let Give::Apply(suspect) = outcome else {
            panic!("not applied");
        };
        assert!(suspect.is_suspect());
        assert_eq!(suspect.access.status, Status::Active);
        assert_eq!(suspect.due, Some(NOW + Duration::from_secs(60)));
        current = *suspect;
    }
}

#[test]
fn an_invalid_installation_is_tried_by_the_schedule_and_by_force_alone() {
    let mut dead = installed();
    dead.access.status = Status::Invalid;
    let forced = Attempt {
        may_try_invalid: true,
        ..attempt(intent("b1", NOW))
    };
    assert!(matches!(begin(&dead, forced, NOW), Begin::Go { .. }));
}
