//! What becomes of an attempt that got no token.

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

use super::rescue::NotRescued;
use super::{STEP_ASIDE, Worker};
use crate::line;
use crate::outcome::{Attempt, FailureKind, Fate, Outcome, fate, judge};

/// How long an attempt waits that cannot be decided while the lock nodes are away.
const UNDECIDED: Duration = Duration::from_secs(5);

impl Worker {
    /// `late_reader`: who goes on reading, where the answer may still come.
    pub(super) async fn fail(
        &self,
        begun: &Begun,
        failure: &Failure,
        late_reader: Option<&str>,
    ) -> Outcome {
        self.heed(begun, failure).await;
        let attempt = Attempt {
            failures: begun.failures,
            is_repeat: begun.first_spent_at.is_some(),
            grace_left: begun.grace_left(),
            at: begun.began_at,
            jitter: f64::from(store::random::bytes::<1>()[0]) / 255.0,
            refused_alone: self.breaker.refused_alone(begun.last_error.as_ref()),
            refused: begun.refused.as_ref(),
            is_outage: self.outages.is_contained(),
            refuses_all: self.outages.refuses_all(),
            is_serving: begun.expires_at.is_some_and(|end| end > begun.began_at),
        };
        let (kind, mut verdict) = judge(failure, attempt);
        verdict.late_reader = late_reader.map(str::to_owned);
        if raw_answer(failure).is_some() {
            let kept = format!("; it is kept sealed as {} by {}", begun.intent, self.name());
            verdict.error.message.push_str(&kept);
        }
        let id = &begun.installation;
        let (kind, verdict) = match verdict.class {
            // Somebody may have a newer one than the one that was refused.
            FailureClass::Refused | FailureClass::WidespreadRefusal => {
                match self.rescue(id).await {
                    Ok(Some(generation)) => return Outcome::Refreshed { generation },
                    Ok(None) => (kind, verdict),
                    Err(unknown) => undecided(&verdict, &unknown),
                }
            }
            FailureClass::Unspent | FailureClass::Unknown | FailureClass::Paused => (kind, verdict),
        };
        self.breaker.failed(begun, failure, kind).await;
        let given_back = self
            .writer
            .record_failure(id, &begun.link, &begun.intent, &verdict)
            .await;
        #[cfg(feature = "simulation")]
        if !self.rules.suspects && verdict.class == FailureClass::Refused {
            // For ever.
            let _ = self
                .writer
                .revoke(id, "GHL refused it", begun.began_at)
                .await;
        }
        match given_back {
            Ok(FailureOutcome::Recorded { due, .. }) => {
                let retry_in = due.map(|due| due.since(begun.began_at));
                line::failed(begun, kind, &verdict.error, retry_in);
                Outcome::Failed(kind)
            }
            Ok(FailureOutcome::Superseded) => Outcome::Superseded,
            Ok(FailureOutcome::Adopted) => {
                warn!(installation = %id, "a refused token was replaced by one that had been kept");
                Outcome::Adopted
            }
            Err(error) => {
                line::failed(begun, kind, &verdict.error, Some(verdict.retry_in));
                unavailable(id, &error)
            }
        }
    }

    /// Drops what was noted of an attempt that brought no token. An answer that cannot be used is kept
    /// as it came: it may hold the only successor of the token.
    pub(super) async fn finish_failed(&self, entry: &Entry, failure: &Failure) {
        let Some(raw) = raw_answer(failure) else {
            return self.forget(entry).await;
        };
        let ring = &self.writer.rings().refresh;
        let aside = Entry {
            answer: Some(raw.seal(&entry.installation, entry.spent_generation, ring)),
            is_quarantined: true,
            ..entry.clone()
        };
        if let Err(error) = self.journal.quarantine(&aside).await {
            self.journal_failed(&error);
        }
        self.keep_in_escrow(&aside).await;
    }

    /// What a failure tells about GHL, whoever it struck.
    async fn heed(&self, begun: &Begun, failure: &Failure) {
        let is_new = begun.first_spent_at.is_none();
        match fate(failure) {
            Fate::Unknown => {
                self.window.lost();
                if is_new {
                    self.outages.new_token_unknown(begun.began_at).await;
                }
            }
            Fate::Answered => {
                self.outages.clear_answer().await;
                let is_first = is_new && begun.refused.is_none();
                if is_first && matches!(failure, Failure::InvalidGrant(_)) {
                    self.outages.new_token_refused().await;
                }
            }
            Fate::NotAsked => {}
        }
    }

    /// Ends an attempt in which nothing was sent.
    pub(super) async fn give_up(
        &self,
        begun: &Begun,
        refusal: FailureClass,
        reason: String,
    ) -> Outcome {
        let verdict = AttemptFailure {
            class: refusal,
            error: LastError::new(
                FailureKind::Transient.as_str(),
                reason.clone(),
                begun.began_at,
            ),
            retry_in: STEP_ASIDE,
            late_reader: None,
        };
        let id = &begun.installation;
        line::failed(
            begun,
            FailureKind::Transient,
            &verdict.error,
            Some(STEP_ASIDE),
        );
        match self
            .writer
            .record_failure(id, &begun.link, &begun.intent, &verdict)
            .await
        {
            Ok(_) => Outcome::Unavailable(reason),
            Err(error) => unavailable(id, &error),
        }
    }
}

/// What GHL answered, where a token may be in it.
fn raw_answer(failure: &Failure) -> Option<RawTokenResponse> {
    match failure {
        Failure::Unreadable { body, .. } => Some(RawTokenResponse::new(body.clone())),
        Failure::Foreign { answer, .. } => Some(RawTokenResponse::new(answer.raw().clone())),
        Failure::NotSent(_)
        | Failure::Lost(_)
        | Failure::Unavailable { .. }
        | Failure::LocationInactive
        | Failure::ClientRejected(_)
        | Failure::InvalidGrant(_)
        | Failure::BadRequest { .. } => None,
    }
}

/// GHL refused the token for good, but somebody may have its successor: it is asked again later.
fn undecided(verdict: &AttemptFailure, unknown: &NotRescued) -> (FailureKind, AttemptFailure) {
    let kind = FailureKind::Ambiguous;
    let verdict = AttemptFailure {
        class: FailureClass::Unknown,
        error: LastError::new(
            kind.as_str(),
            format!("{}; {unknown}", verdict.error.message),
            verdict.error.at,
        ),
        retry_in: UNDECIDED,
        late_reader: None,
    };
    (kind, verdict)
}

/// The outcome where the store does not take part.
pub(super) fn unavailable(id: &InstallationId, error: &WriteError) -> Outcome {
    match error {
        // Nobody but a person can repair it.
        WriteError::Unreadable { .. } | WriteError::Unwritable { .. } => {
            line::unreadable(id, error);
        }
        WriteError::Unavailable(_)
        | WriteError::Refused(_)
        | WriteError::Contended(_)
        | WriteError::Unknown(_)
        | WriteError::Unconfirmed(_) => {
            warn!(installation = %id, error = error as &dyn std::error::Error, "the store");
        }
    }
    Outcome::Unavailable(error.to_string())
}
