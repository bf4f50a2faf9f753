//! The last failure of an installation, in words: what it means, and what to do if it stays so.

use store_writer::installation::LastError;

use super::step::{self, Step};
use super::{Cause, Facts, Verdict};
use crate::refresh::outcome::FailureKind;

/// The last failure as a cause. `None` if it is none that an operator should know.
pub(super) fn cause(facts: &Facts<'_>) -> Option<Cause> {
    let error = facts.installation().last_error.as_ref()?;
    let kind = FailureKind::parse(&error.kind);
    let is_for_person = kind.is_some_and(FailureKind::needs_operator);
    Some(Cause {
        verdict: match is_for_person {
            true => Verdict::Action,
            false => Verdict::Waiting,
        },
        why: describe(error),
        step: kind.and_then(|kind| step_for(kind, facts)),
    })
}

/// The last failure and its meaning.
pub(super) fn describe(error: &LastError) -> String {
    let LastError {
        kind, message, at, ..
    } = error;
    let meaning = FailureKind::parse(kind).map(meaning);
    let message = message.trim_end_matches('.');
    match meaning {
        Some(meaning) => format!("{meaning} At {at}, `{kind}`: {message}."),
        // Of a newer build.
        None => format!("The last failure was at {at}, `{kind}`: {message}."),
    }
}

/// The meaning of a kind of failure, in one or two sentences.
pub(super) const fn meaning(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Transient => {
            "The last refresh failed, because GHL, the store or the lock nodes could not be used. It is tried again."
        }
        FailureKind::Ambiguous => {
            "GHL's answer to the last refresh was lost. The same token is sent again while GHL repeats its answer."
        }
        FailureKind::UnreadableAnswer => {
            "GHL granted a token in a form that evergreen cannot read. The same token is sent again."
        }
        FailureKind::ForeignAnswer => {
            "GHL answered with the token of another installation, which is not used. It is tried again."
        }
        FailureKind::Paused => "GHL holds the location inactive.",
        FailureKind::ClientRejected => "GHL refused the client id and secret of the app.",
        FailureKind::Suspect => "GHL refused the refresh token, perhaps wrongly.",
        FailureKind::InvalidGrant => {
            "GHL refused the refresh token three times within a minute: the customer removed the app, or GHL ended the \
             grant."
        }
        FailureKind::Lost => {
            "An answer of GHL was lost for good, and with it the next refresh token. GHL then refused the earlier one \
             three times."
        }
        FailureKind::StillInvalid => "GHL refused the refresh token once more.",
        FailureKind::BadRequest => {
            "GHL did not understand the refresh. Either its address or its API is another one, or something between \
             evergreen and GHL has answered."
        }
        FailureKind::ScopeMissing => {
            "The agency has not granted the scope that tokens of its locations need."
        }
        FailureKind::NotInstalled => {
            "GHL gives the agency no token for this location: the app is not installed there."
        }
    }
}

fn step_for(kind: FailureKind, facts: &Facts<'_>) -> Option<Step> {
    let id = facts.id();
    match kind {
        FailureKind::Transient
        | FailureKind::Ambiguous
        | FailureKind::UnreadableAnswer
        | FailureKind::Paused
        | FailureKind::Suspect
        | FailureKind::InvalidGrant
        | FailureKind::Lost
        | FailureKind::StillInvalid => None,
        FailureKind::ForeignAnswer => Some(
            Step::new(
                "If it stays so for some minutes, report it to GHL, and let the customer connect again.",
            )
            .run(format!("evergreen installations reconnect-link {id}"))
            .by(step::Action::Reconnect),
        ),
        FailureKind::ClientRejected if facts.pause.is_none() => Some(
            Step::new(
                "Other installations of the app are refreshed, so GHL refuses this one alone: its grant has ended. Let \
                 the customer connect again.",
            )
            .run(format!("evergreen installations reconnect-link {id}"))
            .by(step::Action::Reconnect),
        ),
        FailureKind::ClientRejected => Some(step::correct_credentials(facts.app())),
        FailureKind::BadRequest => Some(
            Step::new(
                "If it stays so, check GHL_API_URL, and whether a firewall or GHL's edge blocks this host.",
            )
            .run("evergreen installations refresh --force ".to_owned() + id.as_str())
            .by(step::Action::ForceRefresh),
        ),
        FailureKind::ScopeMissing => Some(match &facts.agency {
            Some(agency) => Step::new(
                "Add oauth.write and oauth.readonly to GHL_SCOPES and to the app at GHL. Then let the agency connect \
                 again.",
            )
            .run(format!(
                "evergreen installations reconnect-link {}",
                agency.id
            ))
            .by(step::Action::Open(agency.id.clone())),
            None => Step::new("Add oauth.write and oauth.readonly to GHL_SCOPES and to the app at GHL."),
        }),
        FailureKind::NotInstalled => Some(Step::new(
            "Install the app on this location at GHL, if it should have it. The agency does so on the app's page.",
        )),
    }
}
