//! The lines that operators and scripts look for, to the letter; as JSON they carry the same in
//! fields.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use service::telemetry::WHOLE_LINE;
use store::InstallationId;
use store_writer::protocol::{Refusal, Verdict};
use store_writer::writer::Begun;
use store_writer::{Grant, WriteError};
use tracing::{error, info, warn};

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

/// `[REFRESH-FAIL] install_… {error json}`, or `[REFRESH-RETRY]` for what is tried again without
/// anybody's help.
pub(crate) fn failed(begun: &Begun, kind: FailureKind, verdict: &Verdict) {
    let id = &begun.installation;
    let wait = humantime::format_duration(Duration::from_millis(
        u64::try_from(verdict.retry_in.as_millis()).unwrap_or(u64::MAX),
    ));
    let mut error = json!({
        "kind": kind.as_str(),
        "message": verdict.error.message,
        "generation": begun.link.generation.to_string(),
        "attempt": begun.failures + 1,
        "expires_at": begun.expires_at.map(|at| at.to_string()),
        "first_spent_at": begun.first_spent_at.map(|at| at.to_string()),
    });
    if let Some(remedy) = kind.remedy() {
        error["to_do"] = remedy.into();
        error["tried_again_in"] = match verdict.refusal {
            Refusal::Terminal => Value::Null,
            Refusal::Unspent | Refusal::Unknown | Refusal::Paused => wait.to_string().into(),
        };
    }
    if kind.needs_a_person() {
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
            "[REFRESH-RETRY] {id} in {wait} {error}"
        );
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
