use ghl::{Answer, Owner};

use super::*;

fn attempt(failures: u32, is_repeat: bool) -> Attempt<'static> {
    Attempt {
        failures,
        is_repeat,
        grace_left: Duration::ZERO,
        at: Timestamp::from_millis(0),
        jitter: 0.0,
        refused_alone: 0,
        refused: None,
        is_outage: false,
        refuses_all: false,
        is_serving: true,
    }
}

fn refused_before(times: u32, after_lost_answer: bool) -> RefusalCount {
    RefusalCount {
        generation: Generation::FIRST,
        times,
        since: Timestamp::from_millis(0),
        after_lost_answer,
    }
}

fn unavailable(status: u16, retry_after: Option<u64>) -> Failure {
    Failure::Unavailable {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: retry_after.map(Duration::from_secs),
    }
}

fn unreadable() -> Failure {
    Failure::Unreadable {
        reason: Answer::parse(b"<html>").unwrap_err(),
        body: b"<html>".to_vec().into(),
    }
}

fn foreign() -> Failure {
    let answer = Answer::parse(br#"{"access_token":"a","locationId":"M"}"#).unwrap();
    let owner = Owner {
        location: Some("L"),
        company: None,
        user_type: "Location",
    };
    Failure::Foreign {
        mismatch: owner.check(&answer).unwrap_err(),
        answer: Box::new(answer),
    }
}

#[test]
fn an_answer_that_cannot_be_used_may_have_cost_the_token() {
    for (failure, kind) in [
        (unreadable(), FailureKind::UnreadableAnswer),
        (foreign(), FailureKind::ForeignAnswer),
    ] {
        let (judged, verdict) = judge(&failure, attempt(0, false));
        assert_eq!((judged, verdict.class), (kind, FailureClass::Unknown));
        assert!(verdict.retry_in < Duration::from_secs(1), "{failure:?}");
        assert!(!verdict.error.message.contains("html"), "{failure:?}");
    }
}

#[test]
fn only_a_refused_grant_ends_an_installation() {
    let failures = [
        Failure::Lost("x".into()),
        unreadable(),
        foreign(),
        unavailable(500, None),
        unavailable(429, None),
        Failure::LocationInactive,
        Failure::ClientRejected(String::new()),
        Failure::BadRequest {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            message: String::new(),
        },
    ];
    for failure in failures {
        let (_, verdict) = judge(&failure, attempt(50, true));
        assert_ne!(verdict.class, FailureClass::Refused, "{failure:?}");
    }
}

#[test]
fn the_third_refusal_in_a_row_fails_and_later_ones_are_quiet() {
    let kind = |times, was_lost, is_repeat| {
        let before = refused_before(times, was_lost);
        let attempt = Attempt {
            refused: (times > 0).then_some(&before),
            ..attempt(0, is_repeat)
        };
        let (kind, verdict) = judge(&Failure::InvalidGrant(String::new()), attempt);
        assert_eq!(verdict.class, FailureClass::Refused);
        kind
    };
    assert_eq!(kind(0, false, false), FailureKind::Suspect);
    assert_eq!(kind(1, false, true), FailureKind::Suspect);
    assert_eq!(kind(2, false, false), FailureKind::InvalidGrant);
    assert_eq!(kind(2, true, false), FailureKind::Lost);
    assert_eq!(kind(3, true, false), FailureKind::StillInvalid);
}

#[test]
fn those_in_doubt_are_asked_for_every_ten_seconds_in_an_outage() {
    let attempt = Attempt {
        is_outage: true,
        ..attempt(50, true)
    };
    assert_eq!(
        judge(&unavailable(502, None), attempt).1.retry_in,
        IN_OUTAGE
    );
}

#[test]
fn a_lost_answer_is_asked_for_again_many_times_inside_the_grace() {
    let mut elapsed = Duration::ZERO;
    let mut repeats = 0;
    while elapsed < Duration::from_secs(30) {
        let lost = Failure::Lost("x".into());
        elapsed += judge(&lost, attempt(repeats, true)).1.retry_in;
        repeats += 1;
    }
    assert!(repeats >= 7, "{repeats}");
}

#[test]
fn backoff_grows_to_a_minute_and_retry_after_is_honoured() {
    let wait = |failures, failure| judge(&failure, attempt(failures, false)).1.retry_in;
    assert_eq!(wait(0, unavailable(503, None)), Duration::from_secs(1));
    assert_eq!(wait(3, unavailable(503, None)), Duration::from_secs(8));
    assert_eq!(wait(99, unavailable(503, None)), LONGEST_BACKOFF);
    assert_eq!(wait(0, unavailable(429, Some(20))), Duration::from_secs(20));
    assert_eq!(wait(0, unavailable(429, Some(9999))), LONGEST_BACKOFF);
    assert_eq!(wait(99, Failure::LocationInactive), LONGEST_PAUSE);
}

#[test]
fn a_pair_that_works_for_others_and_never_for_one_is_that_ones_end() {
    let refused = Failure::ClientRejected(String::new());
    let judged = |refused_alone| {
        let attempt = Attempt {
            refused_alone,
            ..attempt(50, false)
        };
        judge(&refused, attempt).1
    };
    let last = judged(5);
    assert_eq!(last.class, FailureClass::Unspent);
    assert_eq!(
        last.error.refused_alone, 5,
        "counted from attempt to attempt"
    );
    assert_eq!(judged(6).class, FailureClass::Refused);
}

#[test]
fn a_server_error_is_asked_again_inside_the_grace_whatever_it_says() {
    let wait = |failures| {
        judge(&unavailable(503, Some(60)), attempt(failures, false))
            .1
            .retry_in
    };
    assert!(wait(0) + wait(1) < Duration::from_secs(20));
    assert_eq!(wait(2), Duration::from_secs(60));
}

#[test]
fn a_lost_answer_is_asked_for_inside_the_grace_even_of_an_overloaded_server() {
    for failure in [unavailable(429, Some(60)), unavailable(503, Some(60))] {
        let mut grace_left = Duration::from_secs(30);
        for _ in 0..5 {
            let attempt = Attempt {
                grace_left,
                ..attempt(5, true)
            };
            grace_left -= judge(&failure, attempt).1.retry_in;
        }
        assert!(grace_left > Duration::from_secs(3), "{grace_left:?}");
    }
}

#[test]
fn an_overloaded_server_spent_nothing_and_a_broken_one_may_have() {
    let refusal = |failure| judge(&failure, attempt(0, false)).1.class;
    assert_eq!(refusal(unavailable(429, None)), FailureClass::Unspent);
    assert_eq!(refusal(unavailable(502, None)), FailureClass::Unknown);
}

#[test]
fn nobody_whose_access_token_is_good_is_given_up_while_ghl_refuses_all() {
    let refused = |times| RefusalCount {
        generation: Generation::FIRST,
        times,
        since: Timestamp::from_millis(0),
        after_lost_answer: false,
    };
    let failure = Failure::InvalidGrant("revoked".to_owned());
    let judged = |times, refuses_all, is_serving| {
        let refused = refused(times);
        let attempt = Attempt {
            refused: Some(&refused),
            refuses_all,
            is_serving,
            ..attempt(0, false)
        };
        let (kind, verdict) = judge(&failure, attempt);
        (kind, verdict.class)
    };
    let given_up = (FailureKind::InvalidGrant, FailureClass::Refused);
    assert_eq!(judged(2, false, true), given_up);
    assert_eq!(judged(2, true, false), given_up);
    let spared = (FailureKind::Suspect, FailureClass::WidespreadRefusal);
    assert_eq!(judged(2, true, true), spared);
    let invalid = (FailureKind::StillInvalid, FailureClass::Refused);
    assert_eq!(judged(3, true, true), invalid, "nothing changes for it");
}
