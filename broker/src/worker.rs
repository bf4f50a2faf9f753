//! One refresh: lease → begin → journal → call → journal → commit → release.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ghl::{Answer, Failure, TokenEndpoint};
use serde_json::json;
use service::telemetry::WHOLE_LINE;
use store::InstallationId;
use store_writer::installation::IntentId;
use store_writer::journal::Entry;
use store_writer::protocol::{Refusal, Verdict};
use store_writer::writer::{Begin, Begun, Committed, GaveBack, Wanted};
use store_writer::{Grant, Journal, Lease, Leases, NotLeased, StoreWriter, WriteError};
use tracing::{error, info, warn};

use crate::breaker::{self, Streak};
use crate::config::{Config, Timing};
use crate::metrics;
use crate::outcome::{Attempt, FailureKind, Outcome, judge};

/// How long a contended installation is left to whoever holds it.
const STEP_ASIDE: Duration = Duration::from_millis(500);
/// How often a commit is tried at once; after that the journal's replay goes on with it.
const COMMIT_ATTEMPTS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    timing: Timing,
    pub(crate) writer: StoreWriter,
    leases: Leases,
    pub(crate) journal: Journal,
    endpoint: TokenEndpoint,
    pub(crate) streak: Streak,
    /// Intents of an earlier process of this broker: their holder is surely dead.
    abandoned: Mutex<HashSet<IntentId>>,
}

impl Worker {
    pub(crate) fn new(
        config: &Config,
        writer: StoreWriter,
        leases: Leases,
        journal: Journal,
        endpoint: TokenEndpoint,
    ) -> Self {
        Self {
            name: config.name.clone(),
            timing: config.timing,
            writer,
            leases,
            journal,
            endpoint,
            streak: Streak::default(),
            abandoned: Mutex::default(),
        }
    }

    /// Whoever held this intent is dead: it need not be waited for.
    pub(crate) fn abandon(&self, intent: IntentId) {
        self.abandoned().insert(intent);
    }

    fn abandoned(&self) -> std::sync::MutexGuard<'_, HashSet<IntentId>> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Refreshes one installation, if it is to be.
    ///
    /// Runs to its end once begun: call it in a task that nothing cancels.
    pub(crate) async fn refresh(&self, id: &InstallationId, wanted: Wanted) -> Outcome {
        let started = Instant::now();
        let outcome = match self.leases.take(id, self.timing.lease).await {
            Ok(lease) => {
                let outcome = self.refresh_leased(&lease, wanted).await;
                self.leases.release(lease).await;
                outcome
            }
            Err(NotLeased::Held) => Outcome::Busy(STEP_ASIDE),
            Err(away @ (NotLeased::Unreachable { .. } | NotLeased::Misconfigured(_))) => {
                Outcome::Unavailable(away.to_string())
            }
        };
        metrics::record(&outcome, started.elapsed());
        outcome
    }

    async fn refresh_leased(&self, lease: &Lease, wanted: Wanted) -> Outcome {
        let window = self.timing.window;
        let is_abandoned = |intent: &IntentId| self.abandoned().contains(intent);
        let begin = self
            .writer
            .begin(lease, &self.name, window, wanted, is_abandoned);
        let begun = match begin.await {
            Ok(Begin::Go(begun)) => begun,
            Ok(Begin::Busy { .. }) => return Outcome::Busy(STEP_ASIDE),
            Ok(Begin::Superseded) => return Outcome::Superseded,
            Ok(Begin::NotDue(due)) => {
                // The claim put it off; put it back where it belongs.
                let _ = self.writer.defer(lease.installation(), due).await;
                return Outcome::Superseded;
            }
            Ok(Begin::NotRefreshable(status)) => return Outcome::NotRefreshable(status),
            Ok(Begin::Unknown) => return Outcome::Unknown,
            Err(error) => return unavailable(&error),
        };
        let mut entry = Entry {
            intent: begun.intent.clone(),
            installation: begun.installation.clone(),
            spent_generation: begun.link.generation,
            answer: None,
        };
        if let Err(error) = self.journal.note(&entry).await {
            return self.give_up_unsent(&begun, &error.to_string()).await;
        }
        if lease.remaining() < self.timing.call {
            let outcome = self
                .give_up_unsent(&begun, "the lease ran out before the call")
                .await;
            self.forget(&begun.intent).await;
            return outcome;
        }
        let user_type = begun.user_type.as_str();
        match self.endpoint.refresh(&begun.refresh_token, user_type).await {
            Ok(answer) => {
                let grant = grant(&begun, answer);
                entry.answer = Some(grant.seal(&self.writer.rings().refresh));
                if let Err(error) = self.journal.note(&entry).await {
                    error!(installation = %begun.installation, %error,
                        "the answer could not be journaled: the store is its only hope");
                }
                self.commit(&begun, &grant).await
            }
            Err(failure) => {
                let outcome = self.fail(&begun, &failure).await;
                self.forget(&begun.intent).await;
                outcome
            }
        }
    }

    async fn commit(&self, begun: &Begun, grant: &Grant) -> Outcome {
        let id = &begun.installation;
        self.streak.success();
        let mut pause = Duration::from_millis(50);
        for _ in 0..COMMIT_ATTEMPTS {
            match self.writer.commit(grant).await {
                Ok(committed) => {
                    self.forget(&begun.intent).await;
                    return self.committed(begun, grant, &committed);
                }
                Err(error) => {
                    warn!(installation = %id, error = &error as &dyn std::error::Error,
                        "a granted token waits in the journal for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        Outcome::Journaled
    }

    fn committed(&self, begun: &Begun, grant: &Grant, committed: &Committed) -> Outcome {
        let id = &begun.installation;
        match committed {
            Committed::Applied { generation, .. } => {
                log_refreshed(id, grant);
                Outcome::Refreshed {
                    generation: *generation,
                }
            }
            Committed::Duplicate => Outcome::Superseded,
            Committed::Kept => {
                warn!(installation = %id, broker = self.name,
                    "the token chain moved on meanwhile: the granted token is kept as an alternate");
                Outcome::Superseded
            }
        }
    }

    async fn fail(&self, begun: &Begun, failure: &Failure) -> Outcome {
        let attempt = Attempt {
            failures: begun.failures,
            is_repeat: begun.first_spent_at.is_some(),
            at: begun.began_at,
            jitter: f64::from(store::random::bytes::<1>()[0]) / 255.0,
        };
        let (kind, verdict) = judge(failure, attempt);
        self.trip(kind, &verdict).await;
        let id = &begun.installation;
        let given_back = self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await;
        match given_back {
            Ok(GaveBack::Noted(_)) => {
                log_failed(begun, kind, &verdict);
                Outcome::Failed(kind)
            }
            Ok(GaveBack::Superseded) => Outcome::Superseded,
            Ok(GaveBack::Adopted) => {
                warn!(installation = %id, "a refused token was replaced by one that had been kept");
                Outcome::Adopted
            }
            Err(error) => {
                log_failed(begun, kind, &verdict);
                unavailable(&error)
            }
        }
    }

    /// Pauses all brokers when GHL does not know our client pair any more.
    async fn trip(&self, kind: FailureKind, verdict: &Verdict) {
        if kind != FailureKind::ClientRejected || !self.streak.refused() {
            return;
        }
        error!(
            reason = verdict.error.message,
            "GHL refuses the client id and secret: check GHL_CLIENT_ID and GHL_CLIENT_SECRET. \
             No installation is given up; all refreshes pause for 30 s at a time"
        );
        if let Err(error) = self
            .writer
            .open_breaker(&verdict.error.message, breaker::PAUSE)
            .await
        {
            warn!(
                error = &error as &dyn std::error::Error,
                "the breaker could not be opened"
            );
        }
    }

    async fn give_up_unsent(&self, begun: &Begun, reason: &str) -> Outcome {
        let verdict = Verdict {
            refusal: Refusal::Unspent,
            error: store_writer::installation::LastError {
                kind: FailureKind::Transient.as_str().to_owned(),
                message: reason.to_owned(),
                at: begun.began_at,
            },
            retry_in: STEP_ASIDE,
        };
        let id = &begun.installation;
        log_failed(begun, FailureKind::Transient, &verdict);
        match self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await
        {
            Ok(_) => Outcome::Unavailable(reason.to_owned()),
            Err(error) => unavailable(&error),
        }
    }

    pub(crate) async fn forget(&self, intent: &IntentId) {
        if let Err(error) = self.journal.forget(intent).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at boot");
        }
    }
}

fn grant(begun: &Begun, answer: Answer) -> Grant {
    let lifetime = answer.lifetime();
    Grant {
        installation: begun.installation.clone(),
        spent: begun.link.clone(),
        access_token: answer.access_token,
        refresh_token: answer
            .refresh_token
            .unwrap_or_else(|| begun.refresh_token.clone()),
        expires_at: begun.began_at + lifetime,
        lifetime,
        scopes: answer.scope,
    }
}

fn unavailable(error: &WriteError) -> Outcome {
    warn!(error = error as &dyn std::error::Error, "the store");
    Outcome::Unavailable(error.to_string())
}

/// The line that operators and scripts look for.
pub(crate) fn log_refreshed(id: &InstallationId, grant: &Grant) {
    let hours = grant.lifetime.as_secs_f64() / 3600.0;
    info!(
        target: WHOLE_LINE,
        installation = id.as_str(),
        good_for_hours = hours,
        generation = %grant.spent.generation.next(),
        "[REFRESH] {id} – new token good for {hours:.1} h"
    );
}

/// As above. What is retried without anybody's help is not called a failure.
fn log_failed(begun: &Begun, kind: FailureKind, verdict: &Verdict) {
    let id = &begun.installation;
    let error = json!({
        "kind": kind.as_str(),
        "message": verdict.error.message,
        "generation": begun.link.generation.to_string(),
        "attempt": begun.failures + 1,
        "expires_at": begun.expires_at.map(|at| at.to_string()),
        "first_spent_at": begun.first_spent_at.map(|at| at.to_string()),
    });
    if kind.needs_a_person() {
        error!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-FAIL] {id} {error}"
        );
    } else {
        let wait = humantime::format_duration(Duration::from_millis(
            u64::try_from(verdict.retry_in.as_millis()).unwrap_or(u64::MAX),
        ));
        warn!(
            target: WHOLE_LINE,
            installation = id.as_str(),
            error = %error,
            "[REFRESH-RETRY] {id} in {wait} {error}"
        );
    }
}
