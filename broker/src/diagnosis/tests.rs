use std::time::Duration;

use store::key_list::RingKind;
use store::record::StoredAccess;
use store::seal::{OpenError, Sealed};
use store::{
    AppName, Customer, Generation, InstallationId, LocationId, Status, Timestamp, UserType,
};
use store_writer::installation::{Installation, LastError, LocationList, RefusalCount, TokenChain};
use store_writer::writer::{KnownApps, Snapshot};

use super::facts::{Agency, AgencyFact};
use super::*;
use crate::refresh::breaker::PauseReason;

const NOW: Timestamp = Timestamp::from_millis(1_795_953_600_000);
const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

fn installed() -> Installation {
    Installation {
        id: InstallationId::random(),
        access: StoredAccess {
            app: AppName::default(),
            status: Status::Active,
            generation: Generation::FIRST,
            token: Sealed::from_bytes(b"sealed".to_vec()),
            expires_at: Some(NOW + DAY),
            lifetime: DAY,
            scopes: String::new(),
            user_type: UserType::Location,
            location: Some("L".parse::<LocationId>().unwrap()),
            company: None,
            parent: None,
        },
        client: None,
        chain: None,
        intent: None,
        alternates: std::collections::BTreeMap::default(),
        failures: 0,
        refused: None,
        last_error: None,
        installed_at: NOW - DAY,
        refreshed_at: Some(NOW - HOUR),
        consented_at: NOW - DAY,
        granted_at: Some(NOW - DAY),
        due: Some(NOW + DAY - HOUR),
        locations: None,
        details: None,
        customer: Customer::default(),
        setting: None,
    }
}

fn refused(times: u32) -> Option<RefusalCount> {
    Some(RefusalCount {
        generation: Generation::FIRST,
        times,
        since: NOW - HOUR,
        after_lost_answer: false,
    })
}

fn error(kind: &str) -> Option<LastError> {
    Some(LastError::new(kind, "GHL said so.", NOW - HOUR))
}

fn child(state: Agency, change: impl FnOnce(&mut Installation)) -> Diagnosis {
    let parent = InstallationId::random();
    let id = parent.clone();
    explained(
        |it| {
            it.access.parent = Some(parent);
            change(it);
        },
        |facts| facts.agency = Some(AgencyFact { id, state }),
    )
}

fn explained(
    change: impl FnOnce(&mut Installation),
    surroundings: impl FnOnce(&mut Facts<'_>),
) -> Diagnosis {
    let mut installation = installed();
    change(&mut installation);
    let snapshot = Snapshot {
        installation,
        now: NOW,
    };
    let known = KnownApps {
        names: vec![AppName::default()],
        clients: Vec::new(),
    };
    let mut facts = Facts {
        snapshot: &snapshot,
        known: &known,
        pause: None,
        is_name_taken: false,
        is_contained: false,
        is_refusing_all: false,
        restoring: None,
        unopened: Vec::new(),
        agency: None,
    };
    surroundings(&mut facts);
    diagnose(&facts)
}

fn of(change: impl FnOnce(&mut Installation)) -> Diagnosis {
    explained(change, |_| {})
}

/// Whether all these texts are somewhere in the explanation.
#[track_caller]
fn says(diagnosis: &Diagnosis, texts: &[&str]) {
    let steps = diagnosis.to_do.iter();
    let steps = steps.map(|step| format!("{} {:?} {:?}", step.text, step.command, step.action));
    let steps: Vec<String> = steps.collect();
    let all = format!(
        "{}\n{}\n{}\n{}",
        diagnosis.summary,
        diagnosis.why.join("\n"),
        diagnosis.calls,
        steps.join("\n")
    );
    for text in texts {
        assert!(all.contains(text), "no {text:?} in:\n{all}");
    }
}

#[test]
fn each_status_has_its_verdict_and_its_words() {
    use TokenStatus as T;
    use Verdict::{Action, Waiting, Well};
    let cases: Vec<(T, Verdict, Diagnosis, &[&str])> = vec![
        (
            T::Valid,
            Well,
            of(|_| {}),
            &[
                "valid until 2026-11-30T12:00:00Z",
                "next refresh is at 2026-11-30T11:00:00Z",
                "Calls work.",
            ],
        ),
        (
            T::Expiring,
            Well,
            of(|it| it.access.expires_at = Some(NOW + Duration::from_secs(60))),
            &["refreshed before its next use"],
        ),
        (
            T::Expired,
            Waiting,
            of(|it| {
                it.access.expires_at = Some(NOW);
                it.due = Some(NOW);
            }),
            &["A refresh is due", "token_unavailable", "Refresh"],
        ),
        (
            T::Suspect,
            Waiting,
            of(|it| {
                it.refused = refused(2);
                it.last_error = error("suspect");
            }),
            &[
                "twice, since 2026-11-29T11:00:00Z",
                "After 3 in a row",
                "Calls work until",
                "GHL said so.",
            ],
        ),
        (
            T::Invalid,
            Action,
            of(|it| {
                it.access.status = Status::Invalid;
                it.refused = refused(3);
                it.last_error = error("invalid_grant");
            }),
            &[
                "Needs consent",
                "three times, since",
                "installation_invalid",
                "reconnect-link",
                "--force",
                "once more at",
            ],
        ),
        (
            T::Revoked,
            Action,
            of(|it| {
                it.access.status = Status::Revoked;
                it.last_error = Some(LastError::new("revoked", "uninstalled at GHL", NOW));
            }),
            &[
                "Uninstalled at 2026-11-29T12:00:00Z",
                "installation_revoked",
                "reconnect-link",
                "delete",
            ],
        ),
        (
            T::Paused,
            Action,
            of(|it| {
                it.access.status = Status::Paused;
                it.access.expires_at = Some(NOW);
                it.last_error = error("paused");
            }),
            &["location inactive", "location_inactive", "Ask the customer"],
        ),
        (
            T::Static,
            Well,
            of(|it| it.access.status = Status::Static),
            &["private integration token"],
        ),
        (
            T::Unclaimed,
            Action,
            of(|it| it.access.app = "crm".parse().unwrap()),
            &["no app crm", "[apps.crm]", "Calls work until"],
        ),
        (
            T::Asleep,
            Well,
            child(Agency::Works, |it| it.access.expires_at = None),
            &["nobody has called it", "takes a moment longer"],
        ),
    ];
    let mut seen: Vec<T> = Vec::new();
    for (status, verdict, diagnosis, texts) in cases {
        assert_eq!(
            (diagnosis.status, diagnosis.verdict),
            (status, verdict),
            "{diagnosis:?}"
        );
        says(&diagnosis, texts);
        let needs_steps = verdict == Action;
        assert!(!needs_steps || !diagnosis.to_do.is_empty(), "{diagnosis:?}");
        seen.push(status);
    }
    let unreadable = of_unreadable(&Unreadable::TooNew(9));
    seen.push(unreadable.status);
    assert_eq!(unreadable.verdict, Action);
    for status in T::ALL {
        assert!(seen.contains(&status), "{status:?} has no case");
    }
}

#[test]
fn each_kind_of_failure_is_explained() {
    for kind in crate::refresh::outcome::FailureKind::ALL {
        let diagnosis = of(|it| {
            it.failures = 2;
            it.last_error = error(kind.as_str());
        });
        assert_ne!(diagnosis.verdict, Verdict::Well, "{kind:?}");
        says(
            &diagnosis,
            &[
                error_kind::meaning(kind),
                kind.as_str(),
                "2 attempts in a row",
                "GHL said so.",
            ],
        );
        if kind.needs_operator() {
            assert_eq!(diagnosis.verdict, Verdict::Action, "{kind:?}");
        }
    }
    let newer = of(|it| {
        it.failures = 1;
        it.last_error = error("of_the_future");
    });
    says(&newer, &["of_the_future", "One attempt has failed"]);
}

#[test]
fn failure_before_the_last_success_is_not_mentioned() {
    let diagnosis = of(|it| it.last_error = error("transient"));
    assert_eq!(diagnosis.verdict, Verdict::Well);
    assert!(diagnosis.why.is_empty(), "{diagnosis:?}");
}

#[test]
fn refused_credentials_come_before_the_expired_token() {
    let expire = |it: &mut Installation| it.access.expires_at = Some(NOW);
    let rejected = explained(expire, |facts| {
        facts.pause = Some(PauseReason::ClientRejected);
    });
    assert_eq!(rejected.verdict, Verdict::Action);
    says(
        &rejected,
        &["refuses the client id and secret", "Compare the client id"],
    );
    assert_eq!(rejected.to_do.last().unwrap().action, Some(Action::Refresh));
    let overloaded = explained(expire, |facts| facts.pause = Some(PauseReason::Overloaded));
    assert_eq!(overloaded.verdict, Verdict::Waiting);
    says(&overloaded, &["429"]);
}

#[test]
fn outages_and_restores_are_waited_for() {
    let outage = explained(|_| {}, |facts| facts.is_contained = true);
    says(&outage, &["spends no new refresh token"]);
    let restoring = explained(
        |_| {},
        |facts| facts.restoring = Some(Duration::from_secs(9)),
    );
    says(&restoring, &["refreshes nothing for 9 s"]);
    let refusing = explained(
        |it| it.refused = refused(1),
        |facts| facts.is_refusing_all = true,
    );
    says(&refusing, &["once, since", "many installations"]);
    for diagnosis in [outage, restoring, refusing] {
        assert_eq!(diagnosis.verdict, Verdict::Waiting, "{diagnosis:?}");
    }
}

#[test]
fn missing_sealing_key_is_named_with_its_setting() {
    let key = |facts: &mut Facts<'_>| {
        let unknown = OpenError::UnknownKey("k1".to_owned());
        facts.unopened = vec![(RingKind::Refresh, unknown)];
    };
    let diagnosis = explained(|_| {}, key);
    assert_eq!(diagnosis.verdict, Verdict::Action);
    says(
        &diagnosis,
        &["the stored refresh token", "`k1`", "EVERGREEN_REFRESH_KEYS"],
    );
    let revoked = explained(|it| it.access.status = Status::Revoked, key);
    assert!(revoked.why.is_empty(), "a consent replaces it");
}

#[test]
fn location_depends_on_its_agency() {
    for (state, text) in [
        (Agency::Absent, "has not connected"),
        (Agency::NeedsConsent, "no longer accepts the agency's"),
        (Agency::Revoked, "uninstalled the app"),
        (Agency::Unreadable, "cannot read the agency's record"),
    ] {
        let asleep = child(state, |it| it.access.expires_at = None);
        assert_eq!(asleep.verdict, Verdict::Action, "{state:?}");
        says(
            &asleep,
            &["Waiting for its agency", "Calls fail until", text],
        );
        let with_own = child(state, |it| {
            it.chain = Some(TokenChain {
                consent: String::new(),
                fingerprint: "f".parse().unwrap(),
                refresh_token: Sealed::from_bytes(b"sealed".to_vec()),
            });
        });
        says(
            &with_own,
            &[text, "a refresh token of its own", "Calls work."],
        );
    }
    let works = child(Agency::Works, |_| {});
    assert_eq!((works.verdict, works.to_do.len()), (Verdict::Well, 0));
}

#[test]
fn list_of_an_agency_that_fails_is_mentioned() {
    let diagnosis = of(|it| {
        it.access.user_type = UserType::Company;
        it.locations = Some(LocationList {
            error: Some(LastError::new("list", "GHL answered 500", NOW)),
            ..LocationList::due_at(NOW + HOUR)
        });
    });
    assert_eq!(diagnosis.verdict, Verdict::Waiting);
    says(&diagnosis, &["GHL answered 500", "first call"]);
}

#[test]
fn refresh_that_nobody_makes_needs_an_operator() {
    let late = of(|it| it.due = Some(NOW - HOUR));
    assert_eq!(late.verdict, Verdict::Action);
    says(&late, &["due since 2026-11-29T11:00:00Z", "/readyz"]);
    let soon = of(|it| it.due = Some(NOW - Duration::from_secs(60)));
    assert_eq!(soon.verdict, Verdict::Well);
}

#[test]
fn old_private_token_is_to_be_rotated() {
    let old = of(|it| {
        it.access.status = Status::Static;
        it.refreshed_at = Some(NOW - 91 * DAY);
    });
    assert_eq!(old.verdict, Verdict::Action);
    says(&old, &["add-token"]);
}

#[test]
fn unreadable_records_say_how_to_read_them() {
    for (source, text) in [
        (Unreadable::TooNew(9), "Update this broker"),
        (Unreadable::Missing("gen"), "connect again"),
        (Unreadable::Malformed("gen"), "connect again"),
        (
            Unreadable::Sealed(OpenError::Forged),
            "Restore the sealing key",
        ),
    ] {
        says(&of_unreadable(&source), &[text]);
    }
}
