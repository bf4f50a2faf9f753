//! The status of an installation in words, with what it asks for by itself.

use store::Timestamp;
use store_writer::installation::{Installation, RefusalCount};
use store_writer::protocol::{REFUSALS_TO_INVALID, STATIC_TOKEN_AGE};

use super::facts::AgencyFact;
use super::step::{self, Step};
use super::{Diagnosis, Facts, Verdict, error_kind};
use crate::api::status::TokenStatus;

const UNAVAILABLE: &str =
    "Calls wait some seconds for a new token, and then fail with 503 `token_unavailable`.";

pub(super) fn of(facts: &Facts<'_>) -> Diagnosis {
    let status = TokenStatus::of(facts.snapshot, facts.known);
    match status {
        TokenStatus::Valid | TokenStatus::Expiring => connected(facts, status),
        TokenStatus::Expired => expired(facts),
        TokenStatus::Asleep => asleep(facts),
        TokenStatus::Suspect => suspect(facts),
        TokenStatus::Invalid => invalid(facts),
        TokenStatus::Revoked => revoked(facts),
        TokenStatus::Paused => paused(facts),
        TokenStatus::Static => fixed(facts),
        TokenStatus::Unclaimed => unclaimed(facts),
        // A record that was read is readable.
        TokenStatus::Unreadable => connected(facts, status),
    }
}

fn diagnosis(status: TokenStatus, verdict: Verdict, summary: String, calls: String) -> Diagnosis {
    Diagnosis {
        status,
        verdict,
        summary,
        why: Vec::new(),
        calls,
        to_do: Vec::new(),
    }
}

fn connected(facts: &Facts<'_>, status: TokenStatus) -> Diagnosis {
    let installation = facts.installation();
    let is_minted = facts.agency.is_some();
    let next = match (installation.due, is_minted) {
        (Some(due), false) => format!(", the next refresh is at {due}"),
        (Some(_), true) => ", and the next call after it gets another one".to_owned(),
        (None, _) => String::new(),
    };
    let summary = match installation.access.expires_at {
        Some(end) => format!("Connected: the token is valid until {end}{next}."),
        None => "Connected: the token has no end.".to_owned(),
    };
    let calls = match status {
        TokenStatus::Expiring => "Calls work. The token is refreshed before its next use.",
        _ => "Calls work.",
    };
    diagnosis(status, Verdict::Well, summary, calls.to_owned())
}

fn expired(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let since = installation
        .access
        .expires_at
        .map_or_else(String::new, |end| format!(" since {end}"));
    let summary = match next_try(facts) {
        Some(at) => {
            format!("Expired: the token has been over{since}. The next refresh is at {at}.")
        }
        None => format!("Expired: the token has been over{since}. A refresh is due."),
    };
    Diagnosis {
        to_do: vec![step::refresh(facts.id())],
        ..diagnosis(
            TokenStatus::Expired,
            Verdict::Waiting,
            summary,
            UNAVAILABLE.to_owned(),
        )
    }
}

/// When it is tried next, if that is in the future.
fn next_try(facts: &Facts<'_>) -> Option<Timestamp> {
    let due = facts.installation().due;
    due.filter(|due| *due > facts.snapshot.now)
}

fn asleep(facts: &Facts<'_>) -> Diagnosis {
    let can_wake = facts.agency.as_ref().is_some_and(AgencyFact::works);
    let has_own = facts.installation().chain.is_some();
    let (summary, calls) = match can_wake || has_own {
        true => (
            "Asleep: the location has no token now, since nobody has called it for a while.",
            "Calls work. The first one gets a token with the agency's grant, which takes a moment longer.",
        ),
        false => (
            "Waiting for its agency: the location has no token, and there is no grant to get one with.",
            "Calls fail until the agency has connected.",
        ),
    };
    diagnosis(
        TokenStatus::Asleep,
        Verdict::Well,
        summary.to_owned(),
        calls.to_owned(),
    )
}

fn suspect(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let mut why = Vec::new();
    let next = next_try(facts).map_or_else(
        || "It is tried again now.".to_owned(),
        |at| format!("It is tried again at {at}."),
    );
    let summary = format!(
        "In doubt: GHL refused its refresh token {}. {next}",
        refusals(installation.refused.as_ref())
    );
    why.push(format!(
        "A refusal may be wrong. After {REFUSALS_TO_INVALID} in a row the customer must connect again."
    ));
    if facts.is_refusing_all {
        why.push(
            "GHL refuses the tokens of many installations, so it is probably wrong. None of them ends by that."
                .to_owned(),
        );
    }
    why.extend(installation.last_error.as_ref().map(error_kind::describe));
    why.push(
        "If the customer has removed the app, GHL refuses the access token, too, and calls fail already."
            .to_owned(),
    );
    Diagnosis {
        why,
        ..diagnosis(
            TokenStatus::Suspect,
            Verdict::Waiting,
            summary,
            until_expiry(installation, facts.snapshot.now, UNAVAILABLE),
        )
    }
}

/// Such as `three times, since …`.
fn refusals(refused: Option<&RefusalCount>) -> String {
    let Some(refused) = refused else {
        return "several times".to_owned();
    };
    let times = match refused.times {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        3 => "three times".to_owned(),
        more => format!("{more} times"),
    };
    format!("{times}, since {}", refused.since)
}

/// Calls work until the token expires. `afterwards`: what happens then.
fn until_expiry(installation: &Installation, now: Timestamp, afterwards: &str) -> String {
    match installation.access.expires_at {
        Some(end) if end > now => format!("Calls work until {end}, when the token expires."),
        Some(_) | None => afterwards.to_owned(),
    }
}

fn invalid(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let mut why: Vec<String> = Vec::new();
    why.extend(installation.last_error.as_ref().map(error_kind::describe));
    if let Some(at) = next_try(facts) {
        why.push(format!(
            "evergreen tries the token once more at {at}, in case GHL was wrong."
        ));
    }
    let mut to_do = vec![step::reconnect(facts.id())];
    if let Some(agency) = &facts.agency {
        to_do.insert(0, step::open_agency(&agency.id));
    }
    to_do.push(step::force(facts.id()));
    Diagnosis {
        why,
        to_do,
        ..diagnosis(
            TokenStatus::Invalid,
            Verdict::Action,
            format!(
                "Needs consent: GHL refused its refresh token {}.",
                refusals(installation.refused.as_ref())
            ),
            "Calls fail with 400 `installation_invalid`. The answer has the path where the customer connects again."
                .to_owned(),
        )
    }
}

fn revoked(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let last = installation.last_error.as_ref();
    let summary = match last {
        Some(error) if error.message.contains("uninstalled") => {
            format!("Uninstalled at {}: {}.", error.at, error.message)
        }
        Some(error) => format!("Revoked at {}: {}.", error.at, error.message),
        None => {
            "Revoked: the app was uninstalled, or an operator ended the installation.".to_owned()
        }
    };
    let mut to_do = vec![
        Step::new(
            "If the customer left, delete the installation, or leave it as it is: it costs nothing.",
        )
        .run(format!("evergreen installations delete {}", facts.id())),
    ];
    let mut again = step::reconnect(facts.id());
    again.text = format!("If the customer should come back: {}", lower(&again.text));
    to_do.insert(0, again);
    Diagnosis {
        to_do,
        ..diagnosis(
            TokenStatus::Revoked,
            Verdict::Action,
            summary,
            "Calls fail with 400 `installation_revoked`.".to_owned(),
        )
    }
}

/// With a small letter at its beginning.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn paused(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let next = next_try(facts).map_or_else(String::new, |at| {
        format!(" evergreen asks GHL again at {at}.")
    });
    Diagnosis {
        why: installation
            .last_error
            .as_ref()
            .map(error_kind::describe)
            .into_iter()
            .collect(),
        to_do: vec![
            Step::new(
                "Ask the customer, or the agency, whether the location is paused or unpaid at GHL, and let them activate \
                 it there. evergreen notices by itself.",
            ),
            step::refresh(facts.id()),
        ],
        ..diagnosis(
            TokenStatus::Paused,
            Verdict::Action,
            format!("Paused: GHL holds the location inactive.{next}"),
            until_expiry(
                installation,
                facts.snapshot.now,
                "Calls fail with 400 `location_inactive`.",
            ),
        )
    }
}

/// A static token.
fn fixed(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let rotate_by = installation.refreshed_at.map(|at| at + STATIC_TOKEN_AGE);
    let is_old = rotate_by.is_some_and(|by| by <= facts.snapshot.now);
    let stored = installation
        .refreshed_at
        .map_or_else(String::new, |at| format!(", stored at {at}"));
    let summary = format!("A private integration token{stored}. It is not refreshed.");
    let calls = "Calls are sent with it. evergreen does not know whether GHL still accepts it.";
    let mut diagnosis = diagnosis(
        TokenStatus::Static,
        Verdict::Well,
        summary,
        calls.to_owned(),
    );
    if let (true, Some(by)) = (is_old, rotate_by) {
        diagnosis.verdict = Verdict::Action;
        diagnosis.why.push(format!(
            "It is 90 days old since {by}, and should be rotated."
        ));
        diagnosis.to_do.push(
            Step::new("Rotate it at GHL, and store the new one.")
                .run("evergreen installations add-token"),
        );
    }
    diagnosis
}

fn unclaimed(facts: &Facts<'_>) -> Diagnosis {
    let installation = facts.installation();
    let app = facts.app();
    let is_named = facts.known.names.contains(app);
    let client = installation.client.as_ref();
    let why = match client {
        _ if facts.is_name_taken => {
            format!("The settings have another app under the name {app} than the store.")
        }
        Some(client) if is_named => format!(
            "The settings have an app {app}, but with another client id than {client}, which the refresh token works \
             with."
        ),
        Some(client) => {
            format!("The settings of this broker have no app {app} with the client id {client}.")
        }
        None => format!("The settings of this broker have no app {app}."),
    };
    Diagnosis {
        why: vec![why],
        to_do: vec![step::restore_app(app)],
        ..diagnosis(
            TokenStatus::Unclaimed,
            Verdict::Action,
            "Unclaimed: this broker does not know its app, and does not refresh it.".to_owned(),
            until_expiry(installation, facts.snapshot.now, UNAVAILABLE),
        )
    }
}
