use super::*;

const RULES: Rules = Rules {
    lifetime_ms: 60_000,
    first_lifetime_ms: None,
    grace_ms: 30_000,
    replay_same_access_token: false,
    revoke_replaced: false,
};
const STRICT: Rules = Rules {
    grace_ms: 0,
    ..RULES
};
const START: u64 = 1_000_000;

fn subject() -> Subject {
    Subject::Location {
        location: "loc".into(),
        company: "comp".into(),
    }
}

fn consented() -> Grants {
    let mut grants = Grants::default();
    let redirect_uri = "http://localhost/callback".to_owned();
    let identity = identity(GrantId(1));
    let consent = Consent {
        identity,
        redirect_uri,
    };
    grants.consent("code".to_owned(), consent, START);
    grants
}

fn identity(grant: GrantId) -> Identity {
    Identity {
        grant,
        client: "app-client".into(),
        subject: subject(),
        scope: "a b".into(),
        agency_grant: None,
    }
}

const PRESENTATION: Presentation<'_> = Presentation {
    client_id: "app-client",
    user_type: None,
    rotation: Rotation::Rotate,
};

fn exchange(grants: &mut Grants, now_ms: u64) -> Result<Issue, Refusal> {
    grants.exchange("code", "app-client", None, 1, RULES, now_ms)
}

fn installed() -> (Grants, Claims) {
    let mut grants = consented();
    let issue = exchange(&mut grants, START).unwrap();
    (grants, refresh_claims(&issue))
}

fn refresh_claims(issue: &Issue) -> Claims {
    let token = issue.refresh.unwrap();
    Claims::refresh(issue.identity.clone(), token.generation, token.issued_ms)
}

fn access_claims(issue: &Issue) -> Claims {
    Claims {
        token_use: crate::token::Use::Access,
        identity: issue.identity.clone(),
        number: issue.access.serial,
        issued_ms: issue.access.issued_ms,
        expires_ms: issue.access.expires_ms,
    }
}

/// Refreshes with a serial that follows from the time.
fn refresh(
    grants: &mut Grants,
    token: &Claims,
    rules: Rules,
    now_ms: u64,
) -> Result<Issue, Refusal> {
    grants.refresh(token, PRESENTATION, now_ms, rules, now_ms)
}

#[test]
fn code_is_valid_once() {
    let mut grants = consented();
    assert!(exchange(&mut grants, START).is_ok());
    assert_eq!(exchange(&mut grants, START), Err(Refusal::BadCode));
    assert_eq!(grants.tally().refresh_tokens_issued, 1);
}

#[test]
fn code_is_valid_for_ten_minutes() {
    let end = START + 10 * 60 * 1000;
    assert!(exchange(&mut consented(), end - 1).is_ok());
    assert_eq!(exchange(&mut consented(), end), Err(Refusal::BadCode));
}

#[test]
fn code_is_bound_to_client_and_redirect_uri() {
    let mut grants = consented();
    let stranger = grants.exchange("code", "stranger", None, 1, RULES, START);
    assert_eq!(stranger, Err(Refusal::OtherClient));
    let elsewhere = grants.exchange("code", "app-client", Some("http://x/"), 1, RULES, START);
    assert_eq!(elsewhere, Err(Refusal::OtherRedirectUri));
    assert!(exchange(&mut grants, START).is_ok(), "it was not consumed");
}

#[test]
fn refresh_token_is_valid_once() {
    let (mut grants, first) = installed();
    let second = refresh(&mut grants, &first, STRICT, START + 1).unwrap();
    assert!(!second.replayed);
    assert_eq!(
        refresh(&mut grants, &first, STRICT, START + 1),
        Err(Refusal::Spent)
    );
    let third = refresh(&mut grants, &refresh_claims(&second), STRICT, START + 2).unwrap();
    assert_eq!(third.refresh.unwrap().generation, 3);
    let tally = grants.tally();
    assert_eq!(tally.refresh_tokens_issued, 3);
    assert_eq!(tally.refresh_tokens_spent, 2);
    assert_eq!(tally.spent_outside_grace, 1);
    assert_eq!(tally.replays_in_grace, 0);
}

#[test]
fn replay_in_the_grace_period_returns_the_same_successor() {
    let (mut grants, first) = installed();
    let issue = refresh(&mut grants, &first, RULES, START + 5).unwrap();
    let repeat = refresh(&mut grants, &first, RULES, START + 5 + 29_999).unwrap();
    assert!(repeat.replayed);
    assert_eq!(repeat.refresh, issue.refresh);
    assert_ne!(repeat.access, issue.access);
    assert_eq!(
        refresh(&mut grants, &first, RULES, START + 5 + 30_000),
        Err(Refusal::Spent)
    );
    let tally = grants.tally();
    assert_eq!((tally.refresh_tokens_spent, tally.replays_in_grace), (1, 1));
    assert_eq!(tally.spent_outside_grace, 1);
    let (_, grant) = grants.of("loc").next().unwrap();
    assert_eq!(grant.chain.tally, tally);
    let (_, record) = grant.chain.records().next().unwrap();
    assert_eq!((record.replays, record.spent_outside_grace), (1, 1));
    assert_eq!(record.repeats.len(), 2);
}

#[test]
fn replay_can_return_the_same_access_token() {
    let (mut grants, first) = installed();
    let rules = Rules {
        replay_same_access_token: true,
        ..RULES
    };
    let issue = refresh(&mut grants, &first, rules, START + 5).unwrap();
    let repeat = refresh(&mut grants, &first, rules, START + 9).unwrap();
    assert_eq!(repeat.access, issue.access);
}

#[test]
fn grace_period_continues_after_the_successor_is_spent() {
    let (mut grants, first) = installed();
    let second = refresh(&mut grants, &first, RULES, START + 5).unwrap();
    refresh(&mut grants, &refresh_claims(&second), RULES, START + 6).unwrap();
    let repeat = refresh(&mut grants, &first, RULES, START + 7).unwrap();
    assert_eq!(repeat.refresh, second.refresh);
}

#[test]
fn token_stays_valid_without_rotation() {
    let (mut grants, first) = installed();
    let kept = grants
        .refresh(
            &first,
            Presentation {
                rotation: Rotation::Keep,
                ..PRESENTATION
            },
            9,
            RULES,
            START + 1,
        )
        .unwrap();
    assert_eq!(kept.refresh, None);
    let issue = refresh(&mut grants, &first, STRICT, START + 2).unwrap();
    assert!(!issue.replayed);
    assert_eq!(grants.tally().refreshed_without_rotation, 1);
}

#[test]
fn paused_location_consumes_nothing() {
    for paused in ["loc", "comp"] {
        let (mut grants, first) = installed();
        grants.pause(paused);
        assert_eq!(
            refresh(&mut grants, &first, STRICT, START),
            Err(Refusal::Inactive)
        );
        grants.resume(paused);
        assert!(refresh(&mut grants, &first, STRICT, START).is_ok());
    }
}

#[test]
fn revocation_ends_the_whole_chain() {
    let (mut grants, first) = installed();
    let second = refresh(&mut grants, &first, RULES, START + 1).unwrap();
    assert_eq!(
        grants.access(&access_claims(&second), START + 2),
        Access::Live
    );
    assert_eq!(grants.revoke("app", "loc", START + 2), 1);
    assert_eq!(grants.revoke("app", "loc", START + 2), 0);
    for token in [&first, &refresh_claims(&second)] {
        assert_eq!(
            refresh(&mut grants, token, RULES, START + 3),
            Err(Refusal::Revoked)
        );
    }
    assert_eq!(
        grants.access(&access_claims(&second), START + 3),
        Access::Revoked
    );
    assert_eq!(grants.tally().spent_after_revocation, 2);
    assert_eq!(grants.tally().spent_outside_grace, 0);
}

#[test]
fn consent_after_a_revocation_starts_a_new_chain() {
    let (mut grants, _) = installed();
    grants.revoke("app", "loc", START);
    let consent = Consent {
        identity: identity(GrantId(2)),
        redirect_uri: String::new(),
    };
    grants.consent("again".to_owned(), consent, START);
    let issue = grants
        .exchange("again", "app-client", None, START + 1, RULES, START)
        .unwrap();
    assert_eq!(grants.access(&access_claims(&issue), START), Access::Live);
    assert!(refresh(&mut grants, &refresh_claims(&issue), RULES, START).is_ok());
    assert_eq!(grants.of("loc").count(), 2);
}

#[test]
fn access_tokens_expire_by_time_and_on_request() {
    let (mut grants, first) = installed();
    let second = refresh(&mut grants, &first, RULES, START).unwrap();
    let token = access_claims(&second);
    assert_eq!(grants.access(&token, START + 59_999), Access::Live);
    assert_eq!(grants.access(&token, START + 60_000), Access::Expired);
    grants.expire("loc", token.number);
    assert_eq!(grants.access(&token, START + 1), Access::Expired);
    let third = refresh(&mut grants, &refresh_claims(&second), RULES, START + 1).unwrap();
    assert_eq!(
        grants.access(&access_claims(&third), START + 2),
        Access::Live
    );
}

#[test]
fn user_type_must_match() {
    let (mut grants, first) = installed();
    let mut refresh_as = |user_type| {
        let presentation = Presentation {
            user_type: Some(user_type),
            ..PRESENTATION
        };
        grants.refresh(&first, presentation, 1, STRICT, START)
    };
    assert_eq!(refresh_as(UserType::Company), Err(Refusal::OtherUserType));
    assert!(refresh_as(UserType::Location).is_ok());
}

#[test]
fn refresh_token_expires_after_a_year() {
    let (mut grants, first) = installed();
    let refused = refresh(&mut grants, &first, RULES, first.expires_ms);
    assert_eq!(refused, Err(Refusal::Expired));
    assert!(refresh(&mut grants, &first, RULES, first.expires_ms - 1).is_ok());
}

#[test]
fn restarted_sandbox_restores_a_chain_at_the_presented_token() {
    let (mut before, first) = installed();
    let second = refresh_claims(&refresh(&mut before, &first, RULES, START + 1).unwrap());
    let mut after = Grants::default();
    let third = refresh(&mut after, &second, STRICT, START + 9).unwrap();
    assert_eq!(third.refresh.unwrap().generation, 3);
    assert_eq!(
        refresh(&mut after, &second, STRICT, START + 9),
        Err(Refusal::Spent)
    );
    assert_eq!(
        refresh(&mut after, &first, STRICT, START + 9),
        Err(Refusal::Spent)
    );
    let elsewhere = Claims {
        issued_ms: START + 77,
        ..refresh_claims(&third)
    };
    assert_eq!(
        refresh(&mut after, &elsewhere, STRICT, START + 9),
        Err(Refusal::Unknown)
    );
}

#[test]
fn details_are_dropped_only_after_the_grace_period() {
    let (mut grants, first) = installed();
    refresh(&mut grants, &first, RULES, START).unwrap();
    let grant = grants.grants.get_mut(&GrantId(1)).unwrap();
    assert!(!grant.chain.forget_oldest(START + 29_999, RULES.grace_ms));
    assert!(grant.chain.forget_oldest(START + 30_000, RULES.grace_ms));
    assert!(!grant.chain.forget_oldest(START + 99_999, RULES.grace_ms));
    assert_eq!(grant.chain.records().count(), 1);
    assert_eq!(
        refresh(&mut grants, &first, RULES, START + 30_000),
        Err(Refusal::Spent)
    );
    assert_eq!(grants.tally().spent_outside_grace, 1);
}
