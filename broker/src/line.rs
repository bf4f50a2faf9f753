//! The lines that operators and scripts look for, to the letter; as JSON they carry the same in
//! fields.

use std::error::Error;
use std::sync::Once;
use std::time::Duration;

use ghl::answer::{Doubt, Lifetime};
use serde_json::json;
use service::telemetry::WHOLE_LINE;
use store::InstallationId;
use store_writer::installation::LastError;
use store_writer::writer::{Begun, Recovered};
use store_writer::{Grant, WriteError};
use tracing::{debug, error, info, warn};

use crate::outcome::FailureKind;

/// `[REFRESH] install_… – new token good for 23.9 h`
pub(crate) fn refreshed(id: &InstallationId, grant: &Grant) {
    let hours = grant.lifetime.as_secs_f64() / 3600.0;
    info!(
        target: WHOLE_LINE,
        installation = id.as_str(),
        good_for_hours = hours,
        generation = %grant.spent.generation.next(),
        "[REFRESH] {id} – new token good for {hours:.1} h"
    );
}

/// `[REFRESH-RECOVERED] install_… – was invalid`
pub(crate) fn recovered(id: &InstallationId, from: Recovered) {
    let from = from.as_str();
    info!(
        target: WHOLE_LINE,
        installation = id.as_str(),
        was = from,
        "[REFRESH-RECOVERED] {id} – was {from}"
    );
}

/// `[REFRESH-FAIL] install_… {error json}`, or `[REFRESH-RETRY]` for what is tried again without
/// anybody's help.
pub(crate) fn failed(
    begun: &Begun,
    kind: FailureKind,
    last_error: &LastError,
    retry_in: Option<Duration>,
) {
    let id = &begun.installation;
    let wait = retry_in.map(|wait| {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        humantime::format_duration(Duration::from_millis(millis)).to_string()
    });
    let mut error = json!({
        "kind": kind.as_str(),
        "message": last_error.message,
        "generation": begun.link.generation.to_string(),
        "attempt": begun.failures + 1,
        "expires_at": begun.expires_at.map(|at| at.to_string()),
        "first_spent_at": begun.first_spent_at.map(|at| at.to_string()),
    });
    if let Some(remedy) = kind.remedy() {
        error["to_do"] = remedy.into();
        error["tried_again_in"] = wait.clone().into();
    }
    if kind.needs_a_person() {
        error!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-FAIL] {id} {error}"
        );
    } else if kind == FailureKind::StillInvalid {
        debug!(installation = id.as_str(), error = %error, "an invalid installation is still refused");
    } else {
        let wait = wait.unwrap_or_else(|| "a while".to_owned());
        warn!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-RETRY] {id} in {wait} {error}"
        );
    }
}

/// A lifetime that GHL names and that is odd. A short one is most often meant so, and would be told
/// with every token: once is enough.
pub(crate) fn lifetime(id: &InstallationId, lifetime: &Lifetime) {
    static SHORT: Once = Once::new();
    match &lifetime.doubt {
        None => {}
        Some(Doubt::Short) => {
            SHORT.call_once(|| info!(installation = id.as_str(), "{lifetime}"));
        }
        Some(Doubt::Replaced { .. }) => warn!(installation = id.as_str(), "{lifetime}"),
    }
}

/// A record that only a person can repair.
pub(crate) fn unreadable(id: &InstallationId, error: &WriteError) {
    let cause = error.source().map(ToString::to_string);
    let error = json!({ "kind": "unreadable", "message": error.to_string(), "cause": cause });
    error!(
        target: WHOLE_LINE,
        installation = id.as_str(),
        error = %error,
        "[REFRESH-FAIL] {id} {error}"
    );
}
