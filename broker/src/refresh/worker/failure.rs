//! Attempts that fail: what is recorded of them, in the store and in the journal.

use std::time::Duration;

use ghl::Failure;
use store::InstallationId;
use store_writer::WriteError;
use store_writer::installation::LastError;
use store_writer::journal::Entry;
use store_writer::protocol::{AttemptFailure, FailureClass};
use store_writer::raw_token_response::RawTokenResponse;
use store_writer::writer::{Begun, FailureOutcome};
use tracing::warn;

use super::escrow_recovery::EscrowError;
use super::{CONTENTION_BACKOFF, Worker};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::{Attempt, FailureKind, Outcome, TokenFate, classify, token_fate};
use crate::refresh::refresh_log;

/// The retry delay for a refusal that stays unresolved because the lock nodes are unreachable.
const RECHECK_AFTER: Duration = Duration::from_secs(5);

impl Worker {
    /// Records a failed attempt. `late_reader` names the broker that still reads the call, if any.
    pub(super) async fn record_failure(
        &self,
        begun: &Begun,
        failure: &Failure,
        late_reader: Option<&str>,
    ) -> Outcome {
        self.update_outage(begun, failure).await;
        let app = self.app_of(begun);
        let last_error = begun.last_error.as_ref();
        let attempt = Attempt {
            failures: begun.failures,
            is_retry: begun.first_spent_at.is_some(),
            grace_left: begun.grace_left(),
            at: begun.began_at,
            jitter: f64::from(store::random::bytes::<1>()[0]) / 255.0,
            refused_alone: app
                .as_ref()
                .map_or(0, |app| app.breaker.refused_alone(last_error)),
            refused: begun.refused.as_ref(),
            is_outage: self.outage.is_contained(),
            is_refusing_all: self.outage.is_refusing_all(),
            is_serving: begun.expires_at.is_some_and(|end| end > begun.began_at),
        };
        let (kind, mut verdict) = classify(failure, attempt);
        verdict.late_reader = late_reader.map(str::to_owned);
        if raw_response(failure).is_some() {
            let kept = format!("; it is kept sealed as {} by {}", begun.intent, self.name());
            verdict.error.message.push_str(&kept);
        }
        let id = &begun.installation;
        let (kind, verdict) = match verdict.class {
            // Another broker may have a newer token than the refused one.
            FailureClass::Refused | FailureClass::WidespreadRefusal => {
                match self.recover_from_escrow(id).await {
                    Ok(Some(generation)) => return Outcome::Refreshed { generation },
                    Ok(None) => (kind, verdict),
                    Err(unknown) => unresolved(&verdict, &unknown),
                }
            }
            FailureClass::Unspent | FailureClass::Unknown | FailureClass::Paused => (kind, verdict),
        };
        if let Some(app) = app {
            app.breaker.record_failure(begun, failure, kind).await;
        }
        let given_back = self
            .writer
            .record_failure(id, &begun.link, &begun.intent, &verdict)
            .await;
        #[cfg(feature = "simulation")]
        if !self.rules.suspects && verdict.class == FailureClass::Refused {
            // Without this rule, one refusal is final.
            let _ = self
                .writer
                .revoke(id, "GHL refused it", begun.began_at)
                .await;
        }
        match given_back {
            Ok(FailureOutcome::Recorded { due, .. }) => {
                let retry_in = due.map(|due| due.since(begun.began_at));
                refresh_log::failed(begun, kind, &verdict.error, retry_in);
                Outcome::Failed(kind)
            }
            Ok(FailureOutcome::Superseded) => Outcome::Superseded,
            Ok(FailureOutcome::Adopted) => {
                warn!(installation = %id, "an alternate token replaced a refused one");
                Outcome::Adopted
            }
            Err(error) => {
                refresh_log::failed(begun, kind, &verdict.error, Some(verdict.retry_in));
                unavailable(id, &error)
            }
        }
    }

    /// Closes the journal entry of a failed attempt. An unusable response is kept as it arrived, because it
    /// may hold the only successor of the token.
    pub(super) async fn close_failed_entry(&self, entry: &Entry, failure: &Failure) {
        let Some(raw) = raw_response(failure) else {
            return self.forget(entry).await;
        };
        let ring = &self.writer.rings().refresh;
        let aside = Entry {
            answer: Some(raw.seal(&entry.installation, entry.spent_generation, ring)),
            is_quarantined: true,
            ..entry.clone()
        };
        if let Err(error) = self.journal.quarantine(&aside).await {
            self.stop_on_journal_error(&error);
        }
        self.keep_in_escrow(&aside).await;
    }

    /// Updates the window and the outage record with what a failure says about GHL.
    async fn update_outage(&self, begun: &Begun, failure: &Failure) {
        let is_new = begun.first_spent_at.is_none();
        match token_fate(failure) {
            TokenFate::Unknown => {
                self.window.record_loss();
                if is_new {
                    self.outage.record_unknown(begun.began_at).await;
                }
            }
            TokenFate::Decided => {
                self.outage.record_clear_response().await;
                let is_first = is_new && begun.refused.is_none();
                if is_first && matches!(failure, Failure::InvalidGrant(_)) {
                    self.outage.record_refusal().await;
                }
            }
            TokenFate::NotConsidered => {}
        }
    }

    /// Aborts an attempt before anything was sent.
    pub(super) async fn abort(
        &self,
        begun: &Begun,
        refusal: FailureClass,
        obstacle: Obstacle,
        reason: String,
    ) -> Outcome {
        let verdict = AttemptFailure {
            class: refusal,
            error: LastError::new(
                FailureKind::Transient.as_str(),
                reason.clone(),
                begun.began_at,
            ),
            retry_in: CONTENTION_BACKOFF,
            late_reader: None,
        };
        let id = &begun.installation;
        refresh_log::failed(
            begun,
            FailureKind::Transient,
            &verdict.error,
            Some(CONTENTION_BACKOFF),
        );
        match self
            .writer
            .record_failure(id, &begun.link, &begun.intent, &verdict)
            .await
        {
            Ok(_) => Outcome::Unavailable(obstacle, reason),
            Err(error) => unavailable(id, &error),
        }
    }
}

/// The raw response, if it may hold a token.
fn raw_response(failure: &Failure) -> Option<RawTokenResponse> {
    match failure {
        Failure::Unreadable { body, .. } => Some(RawTokenResponse::new(body.clone())),
        Failure::Foreign { response, .. } => Some(RawTokenResponse::new(response.raw().clone())),
        Failure::NotSent(_)
        | Failure::Lost(_)
        | Failure::Unavailable { .. }
        | Failure::LocationInactive
        | Failure::ClientRejected(_)
        | Failure::InvalidGrant(_)
        | Failure::BadRequest { .. } => None,
    }
}

/// The failure to record if GHL refused the token but another broker may have its successor: a retry after a
/// short delay.
fn unresolved(verdict: &AttemptFailure, unknown: &EscrowError) -> (FailureKind, AttemptFailure) {
    let kind = FailureKind::Ambiguous;
    let verdict = AttemptFailure {
        class: FailureClass::Unknown,
        error: LastError::new(
            kind.as_str(),
            format!("{}; {unknown}", verdict.error.message),
            verdict.error.at,
        ),
        retry_in: RECHECK_AFTER,
        late_reader: None,
    };
    (kind, verdict)
}

/// Logs an error of the store, and returns the outcome.
pub(crate) fn unavailable(id: &InstallationId, error: &WriteError) -> Outcome {
    match error {
        // Only an operator can repair it.
        WriteError::Unreadable { .. } | WriteError::Unwritable { .. } => {
            refresh_log::unreadable(id, error);
        }
        WriteError::Unavailable(_)
        | WriteError::Refused(_)
        | WriteError::Contended(_)
        | WriteError::Unknown(_)
        | WriteError::Unconfirmed(_) => {
            warn!(installation = %id, error = error as &dyn std::error::Error,
                "the store failed during a refresh");
        }
    }
    Outcome::Unavailable(error.into(), error.to_string())
}
