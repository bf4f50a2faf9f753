mod failures;

use std::time::Duration;

use secrecy::SecretString;
use store::record::Status;
use store::seal::{KeyRing, Sealed};
use store::{AppName, Generation, InstallationId, Timestamp, UserType};

use super::*;
use crate::grant::{ChainLink, Grant, Registration};
use crate::installation::{Installation, Intent, IntentId, LastError, RefusalCount};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
pub(super) const WINDOW: Duration = Duration::from_secs(13);
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

pub(super) fn installed() -> Installation {
    let registration = Registration {
        app: AppName::default(),
        client: None,
        access_token: "a1".into(),
        refresh_token: Some("r1".into()),
        expires_at: Some(NOW + LIFETIME),
        lifetime: LIFETIME,
        scopes: "s".to_owned(),
        user_type: UserType::Location,
        location: Some("L".parse().unwrap()),
        company: None,
    };
    let sealed = SealedTokens {
        access: sealed("a1"),
        refresh: Some(sealed("r1")),
    };
    register(
        InstallationId::random(),
        InstallationId::random().as_str(),
        None,
        &registration,
        sealed,
        Some(NOW),
        NOW,
    )
}

fn sealed(text: &str) -> Sealed {
    Sealed::from_bytes(text.as_bytes().to_vec())
}

pub(super) fn intent(holder: &str, at: Timestamp) -> Intent {
    Intent {
        id: IntentId::random(),
        holder: holder.to_owned(),
        opened_at: at,
        until: at + WINDOW,
        first_spent_at: at,
        late: None,
    }
}

fn attempt(intent: Intent) -> Attempt {
    Attempt {
        intent,
        unless_past: None,
        is_after_outage: false,
        may_spend_new: true,
        may_try_invalid: false,
        grace: DEFAULT_GRACE,
    }
}

fn begun(current: &Installation, intent: Intent, now: Timestamp) -> (Installation, ChainLink) {
    match begin(current, attempt(intent), now) {
        Begin::Go { next, link } => (*next, link),
        other => panic!("{other:?}"),
    }
}

fn grant(current: &Installation, spent: ChainLink, successor: &str) -> Grant {
    Grant {
        client: None,
        installation: current.id.clone(),
        spent,
        access_token: "a".into(),
        refresh_token: SecretString::from(successor),
        expires_at: NOW + LIFETIME,
        lifetime: LIFETIME,
        scopes: None,
    }
}

fn tokens(grant: &Grant) -> Tokens {
    Tokens {
        access: sealed("a"),
        refresh: sealed("r"),
        grant: grant.seal(&KeyRing::generate("r")),
    }
}

fn committed(current: &Installation, grant: &Grant) -> Commit {
    commit(current, grant, tokens(grant), NOW + LIFETIME, NOW)
}

fn applied(current: &Installation, grant: &Grant) -> Installation {
    match committed(current, grant) {
        Commit::Apply(next) => *next,
        other => panic!("{other:?}"),
    }
}

fn failure(class: FailureClass) -> AttemptFailure {
    AttemptFailure {
        class,
        error: LastError::new("test", "", NOW),
        retry_in: Duration::from_secs(1),
        late_reader: None,
    }
}

/// An installation that becomes invalid at the next refusal.
fn almost_invalid(installation: Installation) -> Installation {
    Installation {
        refused: Some(RefusalCount {
            generation: installation.access.generation,
            times: REFUSALS_TO_INVALID - 1,
            since: NOW,
            after_lost_answer: false,
        }),
        ..installation
    }
}

#[test]
fn refresh_advances_the_chain_and_clears_the_intent() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    assert_eq!(open.due, Some(NOW + WINDOW), "if the broker dies");
    let grant = grant(&first, link, "r2");
    let second = applied(&open, &grant);
    assert_eq!(second.access.generation, Generation::FIRST.next());
    assert_eq!(second.intent, None);
    assert_eq!(second.due, Some(NOW + LIFETIME));
    assert_eq!(
        committed(&second, &grant),
        Commit::Duplicate,
        "a retried commit"
    );
}

#[test]
fn other_broker_waits_for_the_intent_and_then_takes_it_over() {
    let first = installed();
    let (open, _) = begun(&first, intent("b1", NOW), NOW);
    let early = NOW + WINDOW - Duration::from_millis(1);
    let busy = begin(&open, attempt(intent("b2", early)), early);
    assert!(matches!(busy, Begin::Busy { until, .. } if until == NOW + WINDOW));
    let late = NOW + WINDOW;
    let (taken, _) = begun(&open, intent("b2", late), late);
    let taken = taken.intent.unwrap();
    assert!(taken.is_retry(), "the token may be spent");
    assert_eq!(
        taken.first_spent_at, NOW,
        "the grace period starts at the first attempt"
    );
}

#[test]
fn intent_of_a_dead_process_is_not_waited_for() {
    let mine = intent("b1", NOW);
    let (open, _) = begun(&installed(), mine.clone(), NOW);
    let soon = NOW + Duration::from_secs(1);
    let ends = |current: &Installation, intent: &IntentId, spent| {
        abandon(current, intent, spent, "b1", soon)
    };
    let spent = Generation::FIRST;
    let another = IntentId::random();
    assert_eq!(ends(&open, &another, spent), None, "another attempt");
    let ended = ends(&open, &mine.id, spent).unwrap();
    assert_eq!(ended.due, Some(soon));
    let (taken, _) = begun(&ended, intent("b2", soon), soon);
    assert!(taken.intent.unwrap().is_retry());
}

#[test]
fn intent_lost_in_a_failover_is_opened_again_for_the_current_token() {
    let (first, mine) = (installed(), intent("b1", NOW));
    let soon = NOW + Duration::from_secs(1);
    let restored = abandon(&first, &mine.id, Generation::FIRST, "b1", soon).unwrap();
    assert_eq!(restored.due, Some(soon));
    assert!(restored.intent.as_ref().unwrap().is_retry());
    let (taken, _) = begun(&restored, intent("b2", soon), soon);
    assert!(taken.intent.unwrap().is_retry());

    let link = first.link().unwrap();
    let second = applied(&first, &grant(&first, link, "r2"));
    for (current, spent) in [
        (&second, Generation::FIRST),
        (&first, second.access.generation),
    ] {
        assert_eq!(abandon(current, &mine.id, spent, "b1", soon), None);
    }
    let mut ended = first;
    ended.access.status = Status::Invalid;
    assert_eq!(
        abandon(&ended, &mine.id, Generation::FIRST, "b1", soon),
        None
    );
}

#[test]
fn withdrawn_intent_leaves_the_token_unspent_unless_it_was_a_retry() {
    let (pause, soon) = (Duration::from_secs(1), NOW + Duration::from_secs(1));
    let first = intent("b1", NOW);
    let (open, _) = begun(&installed(), first.clone(), NOW);
    assert_eq!(
        withdraw(&open, &IntentId::random(), soon, pause),
        None,
        "another attempt"
    );
    let withdrawn = withdraw(&open, &first.id, soon, pause).unwrap();
    assert_eq!(withdrawn.due, Some(soon + pause));
    assert_eq!((withdrawn.intent, withdrawn.failures), (None, 0));

    let late = NOW + WINDOW;
    let retry = intent("b2", late);
    let (taken, _) = begun(&open, retry.clone(), late);
    let withdrawn = withdraw(&taken, &retry.id, late, pause).unwrap();
    let left = withdrawn.intent.unwrap();
    assert_eq!((left.until, left.first_spent_at), (late, NOW));
}

#[test]
fn after_an_outage_the_holder_of_the_intent_comes_first() {
    let (open, _) = begun(&installed(), intent("b1", NOW), NOW);
    let at = |seconds| NOW + Duration::from_secs(seconds);
    let begin_at = |holder, seconds, is_after_outage| {
        let now = at(seconds);
        let attempt = Attempt {
            is_after_outage,
            ..attempt(intent(holder, now))
        };
        begin(&open, attempt, now)
    };
    assert!(matches!(begin_at("b2", 40, true), Begin::Busy { .. }));
    assert!(
        matches!(begin_at("b2", 40, false), Begin::Go { .. }),
        "not for ever"
    );
    assert!(
        matches!(begin_at("b2", 20, true), Begin::Go { .. }),
        "GHL repeats its answer"
    );
    assert!(
        matches!(begin_at("b1", 40, true), Begin::Go { .. }),
        "the holder knows its own journal"
    );
}

#[test]
fn begin_after_a_lost_acknowledgement_recognises_its_own_intent() {
    let mine = intent("b1", NOW);
    let (open, _) = begun(&installed(), mine.clone(), NOW);
    let (again, _) = begun(&open, mine, NOW + Duration::from_millis(5));
    assert!(!again.intent.unwrap().is_retry());
}

#[test]
fn refresh_requested_twice_happens_once() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link, "r2"));
    let past_first = Attempt {
        unless_past: Some(Generation::FIRST),
        ..attempt(intent("b2", NOW))
    };
    let again = begin(&second, past_first, NOW);
    assert_eq!(again, Begin::Superseded);
}

#[test]
fn invalid_revoked_and_static_installations_are_not_refreshed() {
    for status in [Status::Invalid, Status::Revoked, Status::Static] {
        let mut ended = installed();
        ended.access.status = status;
        let outcome = begin(&ended, attempt(intent("b1", NOW)), NOW);
        assert_eq!(outcome, Begin::NotRefreshable(status));
    }
}

#[test]
fn late_response_becomes_an_alternate_when_the_chain_moved_on() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let late = grant(&first, link, "r2-other");
    let Commit::AddAlternate(with_alternate) = committed(&second, &late) else {
        panic!("a token that GHL issued was dropped");
    };
    assert!(with_alternate.alternates.contains_key(&late.fingerprint()));
    assert_eq!(committed(&with_alternate, &late), Commit::Ignore, "once");
}

#[test]
fn outdated_response_is_dropped_and_cannot_block_a_newer_one() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let late = grant(&first, link, "r2");
    let second = applied(&open, &late);
    let third = applied(&second, &grant(&second, second.link().unwrap(), "r3"));
    assert_eq!(committed(&third, &late), Commit::Ignore);
    let mine = intent("b1", NOW);
    let (open, link) = begun(&almost_invalid(third.clone()), mine.clone(), NOW);
    let refused_again = failure(FailureClass::Refused);
    let FailureDecision::Apply(ended) = record_failure(&open, &link, &mine.id, &refused_again, NOW)
    else {
        panic!("a spent token replaced a newer one");
    };
    let revived = applied(&ended, &grant(&third, link, "r4"));
    assert_eq!(revived.access.status, Status::Active);
}

#[test]
fn response_ahead_of_a_rolled_back_store_is_applied() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link, "r2"));
    let third = grant(&second, second.link().unwrap(), "r3");
    let repaired = applied(&first, &third);
    assert_eq!(repaired.access.generation, third.spent.generation.next());
    assert_eq!(repaired.chain.unwrap().fingerprint, third.fingerprint());
}

#[test]
fn response_of_a_previous_consent_never_replaces_the_new_one() {
    let first = installed();
    let (_, link) = begun(&first, intent("b1", NOW), NOW);
    let again = Installation {
        id: first.id.clone(),
        ..installed()
    };
    let late = Grant {
        spent: ChainLink {
            generation: link.generation.next().next(),
            ..link
        },
        ..grant(&first, first.link().unwrap(), "r9")
    };
    assert_eq!(committed(&again, &late), Commit::Ignore);
}

#[test]
fn late_response_revives_an_invalid_installation() {
    let first = almost_invalid(installed());
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let FailureDecision::Apply(ended) =
        record_failure(&open, &link, &mine.id, &failure(FailureClass::Refused), NOW)
    else {
        panic!("not applied");
    };
    assert_eq!(ended.access.status, Status::Invalid);
    assert!(ended.due > Some(NOW + Duration::from_secs(30)), "retried");
    let revived = applied(&ended, &grant(&first, link, "r2"));
    assert_eq!(revived.access.status, Status::Active);
    assert_eq!(revived.refused, None);
}

#[test]
fn uninstall_from_before_the_last_consent_is_ignored() {
    let before = NOW - Duration::from_millis(1);
    assert_eq!(revoke(&installed(), "uninstalled", before, NOW), None);
}

#[test]
fn static_token_never_replaces_a_live_consent() {
    let mut known = installed();
    assert!(!may_be_static(Some(&known)));
    known.access.status = Status::Invalid;
    assert!(may_be_static(Some(&known)) && may_be_static(None));
}

#[test]
fn record_round_trips_through_its_fields() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let second = applied(&open, &grant(&first, link.clone(), "r2"));
    let Commit::AddAlternate(with_alternate) = committed(&second, &grant(&first, link, "r2-other"))
    else {
        panic!("no alternate");
    };
    for record in [first, open, *with_alternate] {
        let (access, refresh) = (record.access.to_fields(), record.to_fields());
        let read = Installation::from_fields(record.id.clone(), &access, &refresh);
        assert_eq!(read, Ok(record));
    }
}

#[test]
fn new_token_is_deferred_in_an_outage_and_a_retry_is_not() {
    let deferred = |current: &Installation, now| {
        let attempt = Attempt {
            may_spend_new: false,
            ..attempt(intent("b2", now))
        };
        begin(current, attempt, now)
    };
    let first = installed();
    assert_eq!(deferred(&first, NOW), Begin::Deferred);
    let (open, _) = begun(&first, intent("b1", NOW), NOW);
    let late = NOW + WINDOW;
    assert!(matches!(deferred(&open, late), Begin::Go { .. }));
}

#[test]
fn intent_in_the_far_future_is_capped_to_its_window() {
    let (open, _) = begun(&installed(), intent("b1", NOW), NOW);
    let earlier = NOW - Duration::from_secs(3600);
    let outcome = begin(&open, attempt(intent("b2", earlier)), earlier);
    let Begin::Cap { next, until } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(until, earlier + WINDOW);
    assert_eq!(next.due, Some(until));
    let (taken, _) = begun(&next, intent("b2", until), until);
    assert!(taken.intent.is_some());
}

#[test]
fn token_is_not_sent_after_the_grace_while_another_broker_reads_a_late_response() {
    let first = installed();
    let mine = intent("b1", NOW);
    let (open, link) = begun(&first, mine.clone(), NOW);
    let late = AttemptFailure {
        late_reader: Some("b1".to_owned()),
        ..failure(FailureClass::Unknown)
    };
    let FailureDecision::Apply(unknown) = record_failure(&open, &link, &mine.id, &late, NOW) else {
        panic!("not applied");
    };
    let inside = NOW + Duration::from_secs(20);
    let (retried, _) = begun(&unknown, intent("b2", inside), inside);
    let after = NOW + Duration::from_secs(40);
    let recorded = record_late_reader(&retried, &link, "b1", true, after).unwrap();
    let busy = begin(&recorded, attempt(intent("b3", after)), after);
    assert!(matches!(busy, Begin::Busy { .. }), "{busy:?}");
    let silent = after + LATE_READER_TTL + Duration::from_millis(1);
    let (taken, _) = begun(&recorded, intent("b3", silent), silent);
    assert_eq!(taken.intent.unwrap().first_spent_at, NOW);
    let closed = record_late_reader(&recorded, &link, "b1", false, after).unwrap();
    assert_eq!(closed.intent.as_ref().unwrap().late, None);
    let itself = begin(&recorded, attempt(intent("b1", after)), after);
    assert!(matches!(itself, Begin::Go { .. }), "after a restart");
}

#[test]
fn expiry_is_capped_to_the_lifetime_when_the_clock_was_ahead() {
    let first = installed();
    let (open, link) = begun(&first, intent("b1", NOW), NOW);
    let ahead = Grant {
        expires_at: NOW + 10 * LIFETIME,
        ..grant(&first, link, "r2")
    };
    let next = applied(&open, &ahead);
    assert_eq!(next.access.expires_at, Some(NOW + LIFETIME));
}

#[test]
fn static_token_is_remembered_when_it_is_old_and_then_once_a_week() {
    let mut current = installed();
    current.access.status = Status::Static;
    current.due = Some(NOW + STATIC_TOKEN_AGE);
    assert_eq!(remind(&current, NOW), None);
    let old = NOW + STATIC_TOKEN_AGE;
    let reminded = remind(&current, old).unwrap();
    assert_eq!(remind(&reminded, old), None);
    let week = Duration::from_secs(7 * 86_400);
    assert!(remind(&reminded, old + week).is_some());
    reminded.clone_into(&mut current);
    current.access.status = Status::Active;
    assert_eq!(
        remind(&current, old + week),
        None,
        "it is refreshed instead"
    );
}

#[test]
fn installation_of_an_unknown_app_is_left_alone_for_a_minute() {
    let mut current = installed();
    current.due = Some(NOW);
    let left = postpone(&current, UNKNOWN_APP_PAUSE, DEFAULT_GRACE, NOW).unwrap();
    assert_eq!(left.due, Some(NOW + UNKNOWN_APP_PAUSE));
    assert_eq!(left.link(), current.link());
    assert_eq!(
        postpone(&left, UNKNOWN_APP_PAUSE, DEFAULT_GRACE, NOW),
        None,
        "it is not due"
    );
}
