//! The causes that keep an installation from being refreshed, beside its own status.

use std::time::Duration;

use store::UserType;
use store::key_list::RingKind;
use store::seal::OpenError;

use super::facts::{Agency, AgencyFact};
use super::step::{self, Step};
use super::{Cause, Facts, Verdict, error_kind};
use crate::api::status::TokenStatus;
use crate::refresh::breaker::PauseReason;

/// A refresh that is later than this has a cause. Schedules are polled every few seconds.
const OVERDUE: Duration = Duration::from_secs(5 * 60);

/// The causes, those first that must be mended first.
pub(super) fn of(facts: &Facts<'_>, status: TokenStatus) -> Vec<Cause> {
    let mut causes = keys(facts, status);
    match status {
        TokenStatus::Valid
        | TokenStatus::Expiring
        | TokenStatus::Expired
        | TokenStatus::Suspect
        | TokenStatus::Asleep
        | TokenStatus::Paused => {}
        // A consent replaces all of it, or nothing is ever refreshed.
        TokenStatus::Invalid
        | TokenStatus::Revoked
        | TokenStatus::Static
        | TokenStatus::Unclaimed
        | TokenStatus::Unreadable => return causes,
    }
    causes.extend(credentials(facts));
    causes.extend(facts.agency.as_ref().and_then(|it| agency(facts, it)));
    causes.extend(list(facts));
    causes.extend(restoring(facts));
    if !matches!(status, TokenStatus::Suspect | TokenStatus::Paused) {
        causes.extend(failure(facts));
        causes.extend(outage(facts, status));
        if causes.is_empty() {
            causes.extend(overdue(facts));
        }
    }
    causes
}

/// A revoked installation needs no key, and a consent brings new tokens to an invalid one.
fn keys(facts: &Facts<'_>, status: TokenStatus) -> Vec<Cause> {
    if matches!(status, TokenStatus::Revoked | TokenStatus::Invalid) {
        return Vec::new();
    }
    let cause = |(kind, error): &(RingKind, OpenError)| {
        let (setting, what) = match kind {
            RingKind::Access => ("EVERGREEN_ACCESS_KEYS", "access token"),
            RingKind::Refresh => ("EVERGREEN_REFRESH_KEYS", "refresh token"),
        };
        let step = match error {
            OpenError::UnknownKey(key) => step::restore_sealing_key(
                Some(*kind),
                &format!("put the key `{key}` back into {setting}, after the first one,"),
            ),
            OpenError::Forged => step::restore_sealing_key(
                Some(*kind),
                &format!(
                    "put the key that the store's records are sealed with back into {setting}"
                ),
            ),
            OpenError::Malformed => step::reconnect(facts.id()),
        };
        Cause {
            verdict: Verdict::Action,
            why: format!("This broker cannot open the stored {what}: {error}."),
            step: Some(step),
        }
    };
    facts.unopened.iter().map(cause).collect()
}

/// A location of an agency needs the credentials for its agency's refresh, which the agency's own diagnosis shows.
fn credentials(facts: &Facts<'_>) -> Option<Cause> {
    if facts.agency.as_ref().is_some_and(AgencyFact::works) {
        return None;
    }
    Some(match facts.pause? {
        PauseReason::ClientRejected => Cause {
            verdict: Verdict::Action,
            why: format!(
                "GHL refuses the client id and secret of the app {}. So no installation of it is refreshed.",
                facts.app()
            ),
            step: Some(step::correct_credentials(facts.app())),
        },
        PauseReason::Overloaded => Cause {
            verdict: Verdict::Waiting,
            why: "GHL is overloaded (429), so refreshes pause for some seconds.".to_owned(),
            step: None,
        },
    })
}

fn agency(facts: &Facts<'_>, agency: &AgencyFact) -> Option<Cause> {
    let id = &agency.id;
    let has_own = facts.installation().chain.is_some();
    let (why, step) = match agency.state {
        Agency::Works => return None,
        Agency::Absent => (
            "The location waits for its agency, which has not connected.",
            Step::new("Let the agency connect. Its consent gives tokens to all of its locations.")
                .run("evergreen installations connect-link"),
        ),
        Agency::NeedsConsent => (
            "Its tokens come from its agency, and GHL no longer accepts the agency's refresh token.",
            step::reconnect_agency(id),
        ),
        Agency::Revoked => (
            "Its tokens come from its agency, which has uninstalled the app or was revoked.",
            step::reconnect_agency(id),
        ),
        Agency::Unreadable => (
            "Its tokens come from its agency, and this broker cannot read the agency's record.",
            step::open_agency(id),
        ),
    };
    let why = match has_own {
        true => format!("{why} Meanwhile it is refreshed with a refresh token of its own."),
        false => why.to_owned(),
    };
    Some(Cause {
        verdict: Verdict::Action,
        why,
        step: Some(step),
    })
}

/// The list of an agency's locations.
fn list(facts: &Facts<'_>) -> Option<Cause> {
    let installation = facts.installation();
    if installation.access.user_type != UserType::Company {
        return None;
    }
    let list = installation.locations.as_ref()?;
    let error = list.error.as_ref()?;
    Some(Cause {
        verdict: Verdict::Waiting,
        why: format!(
            "GHL's list of the agency's locations could not be read at {}: {}. It is read again at {}. Until then new \
             locations are found with their first call.",
            error.at,
            error.message.trim_end_matches('.'),
            list.due
        ),
        step: None,
    })
}

fn restoring(facts: &Facts<'_>) -> Option<Cause> {
    let left = facts.restoring?;
    Some(Cause {
        verdict: Verdict::Waiting,
        why: format!(
            "The store may have lost writes, so this broker refreshes nothing for {} s, while the brokers restore what \
             they know.",
            left.as_secs().max(1)
        ),
        step: None,
    })
}

/// The last failure, if no refresh has succeeded since.
fn failure(facts: &Facts<'_>) -> Option<Cause> {
    let installation = facts.installation();
    let is_new = installation.failures > 0;
    let cause = error_kind::cause(facts).filter(|_| is_new)?;
    let next = installation.due.filter(|due| *due > facts.snapshot.now);
    let next = match (next, installation.failures) {
        (Some(at), failures) => {
            format!(" {failures} attempts in a row have failed. The next one is at {at}.")
        }
        (None, failures) => format!(" {failures} attempts in a row have failed."),
    };
    let next = next.replace(" 1 attempts in a row have", " One attempt has");
    Some(Cause {
        why: cause.why + &next,
        ..cause
    })
}

fn outage(facts: &Facts<'_>, status: TokenStatus) -> Option<Cause> {
    let is_minted = facts.agency.as_ref().is_some_and(AgencyFact::works);
    if !facts.is_contained || is_minted || status == TokenStatus::Asleep {
        return None;
    }
    Some(Cause {
        verdict: Verdict::Waiting,
        why: "GHL's token endpoint fails. evergreen spends no new refresh token until it works again, so that none is \
              lost. The first success ends this for all installations."
            .to_owned(),
        step: None,
    })
}

/// Nothing else explains why it was not refreshed.
fn overdue(facts: &Facts<'_>) -> Option<Cause> {
    let due = facts.installation().due?;
    if facts.snapshot.now.since(due) < OVERDUE {
        return None;
    }
    Some(Cause {
        verdict: Verdict::Action,
        why: format!("A refresh has been due since {due}, and no broker has made it."),
        step: Some(
            Step::new(
                "Look whether the brokers run and are ready: `/readyz` of each says why it is not. Then refresh it now.",
            )
            .run(format!("evergreen installations refresh {}", facts.id()))
            .by(step::Action::Refresh),
        ),
    })
}
