//! Spends one refresh token: the journal, the call of GHL, and what follows from its response.

use std::sync::Arc;

use ghl::token_endpoint::{PendingCall, wait_for};
use ghl::{Failure, TokenResponse};
use store::Timestamp;
use store::clock::Moment;
use store_writer::Lease;
use store_writer::journal::Entry;
use store_writer::protocol::FailureClass;
use store_writer::writer::Begun;
use tokio::time::Instant;

use super::Worker;
use super::commit::{build_grant, check_owner};
use crate::metrics;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::Outcome;
use crate::refresh::spans;

impl Worker {
    /// Writes the attempt to the journal, spends the token, and handles the response.
    pub(super) async fn spend(self: &Arc<Self>, lease: &Lease, begun: Begun) -> Outcome {
        let entry = Entry::asked(
            begun.intent.clone(),
            begun.installation.clone(),
            begun.link.generation,
            lease.value(),
        );
        if let Err(reason) = self.ready_to_spend() {
            let reason = reason.to_string();
            return self
                .abort(&begun, FailureClass::Unspent, Obstacle::File, reason)
                .await;
        }
        if let Err(error) = spans::journal(self.journal.note(&entry)).await {
            self.stop_on_journal_error(&error);
            let reason = error.to_string();
            return self
                .abort(&begun, FailureClass::Unspent, Obstacle::File, reason)
                .await;
        }
        crash_point::reached(Step::IntentJournaled);
        // Other brokers rely on no call starting after the window or after the lease.
        let left = self.timing.window.saturating_sub(lease.held_for());
        if left.min(lease.remaining()) < self.timing.call {
            let late = "there was no time left for the call".to_owned();
            let outcome = self
                .abort(&begun, FailureClass::Unspent, Obstacle::Late, late)
                .await;
            self.forget(&entry).await;
            return outcome;
        }
        match spans::exchange(self.call(&begun, lease.since())).await {
            CallOutcome::Response(response) => {
                // Not the current time: this process may have been paused after the response arrived.
                let healthy_at = begun.began_at;
                self.handle_grant(&begun, &entry, *response, healthy_at)
                    .await
            }
            CallOutcome::Failed(failure) => {
                self.note_lost_response(&begun, lease.since(), &failure);
                let outcome = self.record_failure(&begun, &failure, None).await;
                self.close_failed_entry(&entry, &failure).await;
                outcome
            }
            #[cfg(feature = "simulation")]
            CallOutcome::Late(call) if !self.rules.late_answers => {
                drop(call);
                self.open_calls.close(&begun);
                let failure = late_failure();
                self.note_lost_response(&begun, lease.since(), &failure);
                let outcome = self.record_failure(&begun, &failure, None).await;
                self.forget(&entry).await;
                outcome
            }
            CallOutcome::Late(call) => {
                let failure = late_failure();
                self.note_lost_response(&begun, lease.since(), &failure);
                let outcome = self
                    .record_failure(&begun, &failure, Some(&self.name))
                    .await;
                self.read_in_background(begun, entry, call);
                outcome
            }
        }
    }

    /// Sends the token and waits until the timeout. The attempt is already in the journal.
    pub(super) async fn call(&self, begun: &Begun, since: Moment) -> CallOutcome {
        let user_type = begun.user_type.as_str();
        let Some(app) = self.app_of(begun) else {
            let gone = Failure::NotSent("the app is no longer in the settings".into());
            return CallOutcome::Failed(gone);
        };
        let sent_at = Instant::now();
        let mut call = app.endpoint.refresh(&begun.refresh_token, user_type);
        self.open_calls.open(begun, since);
        let waited = wait_for(self.timing.call, &mut call);
        let answered = crash_point::while_waiting(waited).await;
        let Some(answered) = answered else {
            return CallOutcome::Late(call);
        };
        metrics::token_endpoint_answered(sent_at.elapsed());
        self.open_calls.close(begun);
        match answered.and_then(|response| check_owner(begun, response)) {
            Ok(response) => CallOutcome::Response(Box::new(response)),
            Err(failure) => CallOutcome::Failed(failure),
        }
    }

    /// Persists and commits a grant. The grant shows that GHL was healthy at `healthy_at`.
    pub(super) async fn handle_grant(
        &self,
        begun: &Begun,
        entry: &Entry,
        response: TokenResponse,
        healthy_at: Timestamp,
    ) -> Outcome {
        crash_point::reached(Step::Answered);
        let app = self.app_of(begun);
        let grant = build_grant(begun, response);
        let answer = Some(grant.seal(&self.writer.rings().refresh));
        let entry = Entry {
            answer,
            ..entry.clone()
        };
        self.persist_response(&entry).await;
        self.clear_lost_response(begun);
        crash_point::reached(Step::AnswerJournaled);
        let outcome = self.commit(entry, &grant).await;
        self.open_calls.forget(&begun.installation, &begun.link);
        self.window.record_success();
        self.outage.record_success(healthy_at).await;
        if let Some(app) = app {
            app.breaker.record_success(begun.began_at).await;
            if app.name == begun.app {
                // The store of an older build has no name yet. Nobody waits for it.
                let writer = self.writer.clone();
                self.shutdown
                    .spawn(async move { app.claim_name(&writer).await });
            }
        }
        outcome
    }
}

/// The outcome of a call.
pub(in crate::refresh) enum CallOutcome {
    Response(Box<TokenResponse>),
    Failed(Failure),
    /// The response has not arrived yet.
    Late(PendingCall),
}

/// The failure of a call whose response has not arrived within the timeout.
pub(super) fn late_failure() -> Failure {
    Failure::Lost("GHL has not responded yet; the call is read in the background".into())
}
