use ghl::{Owner, TokenResponse};

use super::*;

fn attempt(failures: u32, is_retry: bool) -> Attempt<'static> {
    Attempt {
        failures,
        is_retry,
        grace_left: Duration::ZERO,
        at: Timestamp::from_millis(0),
        jitter: 0.0,
        refused_alone: 0,
        refused: None,
        is_outage: false,
        is_refusing_all: false,
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
        reason: TokenResponse::parse(b"<html>").unwrap_err(),
        body: b"<html>".to_vec().into(),
    }
}

fn foreign() -> Failure {
    let response = TokenResponse::parse(br#"{"access_token":"a","locationId":"M"}"#).unwrap();
    let owner = Owner {
        location: Some("L"),
        company: None,
        user_type: "Location",
    };
    Failure::Foreign {
        mismatch: owner.check(&response).unwrap_err(),
        response: Box::new(response),
    }
}

#[test]
fn unusable_response_may_have_spent_the_token() {
    for (failure, kind) in [
        (unreadable(), FailureKind::UnreadableAnswer),
        (foreign(), FailureKind::ForeignAnswer),
    ] {
        let (classified, verdict) = classify(&failure, attempt(0, false));
        assert_eq!((classified, verdict.class), (kind, FailureClass::Unknown));
        assert!(verdict.retry_in < Duration::from_secs(1), "{failure:?}");
        assert!(!verdict.error.message.contains("html"), "{failure:?}");
    }
}

#[test]
fn only_a_refused_grant_makes_an_installation_invalid() {
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
        let (_, verdict) = classify(&failure, attempt(50, true));
        assert_ne!(verdict.class, FailureClass::Refused, "{failure:?}");
    }
}

#[test]
fn third_refusal_makes_an_installation_invalid_and_later_ones_are_quiet() {
    let kind = |times, was_lost, is_retry| {
        let before = refused_before(times, was_lost);
        let attempt = Attempt {
            refused: (times > 0).then_some(&before),
            ..attempt(0, is_retry)
        };
        let (kind, verdict) = classify(&Failure::InvalidGrant(String::new()), attempt);
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
fn unresolved_installation_is_retried_every_ten_seconds_in_an_outage() {
    let attempt = Attempt {
        is_outage: true,
        ..attempt(50, true)
    };
    assert_eq!(
        classify(&unavailable(502, None), attempt).1.retry_in,
        RETRY_IN_OUTAGE
    );
}

#[test]
fn lost_response_is_retried_at_least_seven_times_in_the_grace_period() {
    let mut elapsed = Duration::ZERO;
    let mut repeats = 0;
    while elapsed < Duration::from_secs(30) {
        let lost = Failure::Lost("x".into());
        elapsed += classify(&lost, attempt(repeats, true)).1.retry_in;
        repeats += 1;
    }
    assert!(repeats >= 7, "{repeats}");
}

#[test]
fn backoff_grows_to_a_minute_and_honours_retry_after() {
    let wait = |failures, failure| classify(&failure, attempt(failures, false)).1.retry_in;
    assert_eq!(wait(0, unavailable(503, None)), Duration::from_secs(1));
    assert_eq!(wait(3, unavailable(503, None)), Duration::from_secs(8));
    assert_eq!(wait(99, unavailable(503, None)), MAX_BACKOFF);
    assert_eq!(wait(0, unavailable(429, Some(20))), Duration::from_secs(20));
    assert_eq!(wait(0, unavailable(429, Some(9999))), MAX_BACKOFF);
    assert_eq!(wait(99, Failure::LocationInactive), MAX_PAUSE);
}

#[test]
fn credentials_rejected_for_one_installation_alone_make_it_invalid() {
    let refused = Failure::ClientRejected(String::new());
    let classified = |refused_alone| {
        let attempt = Attempt {
            refused_alone,
            ..attempt(50, false)
        };
        classify(&refused, attempt).1
    };
    let last = classified(5);
    assert_eq!(last.class, FailureClass::Unspent);
    assert_eq!(last.error.refused_alone, 5, "the record counts it");
    assert_eq!(classified(6).class, FailureClass::Refused);
}

#[test]
fn server_error_is_retried_in_the_grace_period_despite_retry_after() {
    let wait = |failures| {
        classify(&unavailable(503, Some(60)), attempt(failures, false))
            .1
            .retry_in
    };
    assert!(wait(0) + wait(1) < Duration::from_secs(20));
    assert_eq!(wait(2), Duration::from_secs(60));
}

#[test]
fn lost_response_is_retried_in_the_grace_period_despite_429() {
    for failure in [unavailable(429, Some(60)), unavailable(503, Some(60))] {
        let mut grace_left = Duration::from_secs(30);
        for _ in 0..5 {
            let attempt = Attempt {
                grace_left,
                ..attempt(5, true)
            };
            grace_left -= classify(&failure, attempt).1.retry_in;
        }
        assert!(grace_left > Duration::from_secs(3), "{grace_left:?}");
    }
}

#[test]
fn a_429_leaves_the_token_unspent_and_a_502_may_have_spent_it() {
    let refusal = |failure| classify(&failure, attempt(0, false)).1.class;
    assert_eq!(refusal(unavailable(429, None)), FailureClass::Unspent);
    assert_eq!(refusal(unavailable(502, None)), FailureClass::Unknown);
}

#[test]
fn installation_with_a_valid_access_token_stays_suspect_while_ghl_refuses_all() {
    let refused = |times| RefusalCount {
        generation: Generation::FIRST,
        times,
        since: Timestamp::from_millis(0),
        after_lost_answer: false,
    };
    let failure = Failure::InvalidGrant("revoked".to_owned());
    let classified = |times, is_refusing_all, is_serving| {
        let refused = refused(times);
        let attempt = Attempt {
            refused: Some(&refused),
            is_refusing_all,
            is_serving,
            ..attempt(0, false)
        };
        let (kind, verdict) = classify(&failure, attempt);
        (kind, verdict.class)
    };
    let ended = (FailureKind::InvalidGrant, FailureClass::Refused);
    assert_eq!(classified(2, false, true), ended);
    assert_eq!(classified(2, true, false), ended);
    let spared = (FailureKind::Suspect, FailureClass::WidespreadRefusal);
    assert_eq!(classified(2, true, true), spared);
    let invalid = (FailureKind::StillInvalid, FailureClass::Refused);
    assert_eq!(classified(3, true, true), invalid, "it is already invalid");
}
