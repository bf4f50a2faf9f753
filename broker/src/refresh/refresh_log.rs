//! The log lines for refreshes. Operators and scripts match their tags byte for byte. In the JSON log format
//! the same values are in fields.

use std::error::Error;
use std::sync::Once;
use std::time::Duration;

use ghl::token_response::{Lifetime, LifetimeWarning};
use serde_json::json;
use service::telemetry::WHOLE_LINE;
use store::InstallationId;
use store_writer::installation::LastError;
use store_writer::writer::{Begun, Recovered};
use store_writer::{Grant, WriteError};
use tracing::{debug, error, info, warn};

use crate::refresh::outcome::FailureKind;

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

/// `[REFRESH-FAIL] install_… {error json}` if an operator must act, `[REFRESH-RETRY]` otherwise.
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
    if kind.needs_operator() {
        error!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-FAIL] {id} {error}"
        );
    } else if kind == FailureKind::StillInvalid {
        debug!(installation = id.as_str(), error = %error, "GHL still refuses an invalid installation");
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

/// `[TOKEN-OLD] install_… – …`
pub(crate) fn old_token(id: &InstallationId) {
    warn!(
        target: WHOLE_LINE,
        installation = id.as_str(),
        "[TOKEN-OLD] {id} – its private integration token is older than 90 days: rotate it in GHL's settings, and store \
         the new one with `evergreen installations add-token`"
    );
}

/// As [`failed`], for a location of an agency that got no token.
pub(crate) fn mint_failed(id: &InstallationId, kind: FailureKind, message: &str) {
    let mut error = json!({ "kind": kind.as_str(), "message": message });
    if let Some(remedy) = kind.remedy() {
        error["to_do"] = remedy.into();
        error!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-FAIL] {id} {error}"
        );
    } else {
        warn!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-RETRY] {id} when it is called again {error}"
        );
    }
}

/// Logs an unusual `expires_in`. A short one is usually intended and comes with every token, so it is logged
/// once per process.
pub(crate) fn lifetime(id: &InstallationId, lifetime: &Lifetime) {
    static SHORT: Once = Once::new();
    match &lifetime.warning {
        None => {}
        Some(LifetimeWarning::Short) => {
            SHORT.call_once(|| info!(installation = id.as_str(), "{lifetime}"));
        }
        Some(LifetimeWarning::Replaced { .. }) => warn!(installation = id.as_str(), "{lifetime}"),
    }
}

/// `[REFRESH-FAIL]` for a record that only an operator can repair.
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
