//! One refresh: lease → begin → journal → call → journal → commit → release.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ghl::{Answer, Failure, TokenEndpoint};
use service::shutdown::Shutdown;
use store::InstallationId;
use store_writer::durable::DurableError;
use store_writer::installation::IntentId;
use store_writer::journal::Entry;
use store_writer::protocol::{Refusal, Verdict};
use store_writer::writer::{Begin, Begun, Committed, GaveBack, Wanted};
use store_writer::{Grant, Journal, Lease, Leases, NotLeased, StoreWriter, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, debug_span, error, info, warn};

use crate::breaker::{self, Streak};
use crate::config::{Config, Timing};
use crate::line;
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
    /// Answers that the store has not taken yet, by installation. They are also in the journal.
    waiting: Mutex<HashMap<InstallationId, Entry>>,
    /// Bounds the refreshes under way, whoever asked for them.
    slots: Arc<Semaphore>,
    /// Whether GHL refuses our client pair, as the scheduler last saw.
    is_broken: AtomicBool,
    /// Until when the store counts as just come back.
    settling: Mutex<Instant>,
    shutdown: Shutdown,
}

/// After an outage, and after a start, brokers first commit what their journals hold.
const SETTLING: Duration = Duration::from_secs(5);

impl Worker {
    pub(crate) fn new(
        config: &Config,
        writer: StoreWriter,
        leases: Leases,
        journal: Journal,
        endpoint: TokenEndpoint,
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            name: config.name.clone(),
            timing: config.timing,
            writer,
            leases,
            journal,
            endpoint,
            streak: Streak::default(),
            waiting: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.scheduler.concurrency)),
            is_broken: AtomicBool::new(false),
            settling: Mutex::new(Instant::now() + SETTLING),
            shutdown: shutdown.clone(),
        }
    }

    /// A place among the refreshes under way.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.ok()
    }

    /// As [`Worker::slot`], without waiting.
    pub(crate) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// The store has just come back: others may be about to commit what they hold.
    pub(crate) fn settle(&self) {
        *lock(&self.settling) = Instant::now() + SETTLING;
    }

    /// Whether refreshes pause.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// An answer that is to be committed before anything else happens to its installation.
    pub(crate) fn keep_waiting(&self, entry: Entry) {
        lock(&self.waiting).insert(entry.installation.clone(), entry);
    }

    pub(crate) fn waiting(&self) -> Vec<Entry> {
        lock(&self.waiting).values().cloned().collect()
    }

    /// Refreshes one installation, if it is to be.
    ///
    /// Runs to its end once begun: call it in a task that nothing cancels.
    pub(crate) async fn refresh(&self, id: &InstallationId, wanted: Wanted) -> Outcome {
        if self.is_broken() {
            return Outcome::Unavailable("GHL refuses the client id and secret".to_owned());
        }
        let started = Instant::now();
        let outcome = match self.leases.take(id, self.timing.lease).await {
            Ok(lease) => {
                let span = debug_span!("refresh", installation = id.as_str());
                let outcome = self.refresh_leased(&lease, wanted).instrument(span).await;
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
        let id = lease.installation();
        let waiting = lock(&self.waiting).get(id).cloned();
        if let Some(entry) = waiting
            && let Err(error) = self.commit_entry(&entry).await
        {
            return unavailable(id, &error);
        }
        let window = self.timing.window;
        let is_settling = Instant::now() < *lock(&self.settling);
        let begin = self
            .writer
            .begin(lease, &self.name, window, wanted, is_settling);
        let begun = match begin.await {
            Ok(Begin::Go(begun)) => begun,
            Ok(Begin::Busy { .. }) => return Outcome::Busy(STEP_ASIDE),
            Ok(Begin::Superseded) => return Outcome::Superseded,
            Ok(Begin::NotDue(due)) => {
                // The claim put it off; put it back where it belongs.
                return match self.writer.reschedule(id).await {
                    Ok(()) => Outcome::NotDue(due),
                    Err(error) => unavailable(id, &error),
                };
            }
            Ok(Begin::NotRefreshable(status)) => return Outcome::NotRefreshable(status),
            Ok(Begin::Unknown) => return Outcome::Unknown,
            Err(error) => return unavailable(id, &error),
        };
        let mut entry = Entry {
            intent: begun.intent.clone(),
            installation: begun.installation.clone(),
            spent_generation: begun.link.generation,
            answer: None,
        };
        if let Err(error) = self.journal.note(&entry).await {
            self.journal_failed(&error);
            return self.give_up_unsent(&begun, &error.to_string()).await;
        }
        // Others count on us starting nothing after the window, or after the lease.
        let left = window.saturating_sub(lease.held_for());
        if left.min(lease.remaining()) < self.timing.call {
            let late = "there was no time left for the call";
            let outcome = self.give_up_unsent(&begun, late).await;
            self.forget(&begun.intent).await;
            return outcome;
        }
        let user_type = begun.user_type.as_str();
        match self.endpoint.refresh(&begun.refresh_token, user_type).await {
            Ok(answer) => {
                let grant = grant(&begun, answer);
                entry.answer = Some(grant.seal(&self.writer.rings().refresh));
                if let Err(error) = self.journal.note(&entry).await {
                    // The store is its only hope now.
                    self.journal_failed(&error);
                }
                self.commit(entry, &grant).await
            }
            Err(failure) => {
                let outcome = self.fail(&begun, &failure).await;
                self.forget(&begun.intent).await;
                outcome
            }
        }
    }

    async fn commit(&self, entry: Entry, grant: &Grant) -> Outcome {
        let id = &entry.installation;
        self.streak.success();
        let mut pause = Duration::from_millis(50);
        for _ in 0..COMMIT_ATTEMPTS {
            match self.writer.commit(grant).await {
                Ok(committed) => {
                    self.forget(&entry.intent).await;
                    return self.committed(grant, &committed);
                }
                Err(error) => {
                    warn!(installation = %id, error = &error as &dyn std::error::Error,
                        "a granted token waits in the journal for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.keep_waiting(entry);
        Outcome::Journaled
    }

    /// Commits an answer from the journal. Idempotent.
    pub(crate) async fn commit_entry(&self, entry: &Entry) -> Result<(), WriteError> {
        let id = &entry.installation;
        if let Some(sealed) = &entry.answer {
            let ring = &self.writer.rings().refresh;
            let grant = Grant::open(id, entry.spent_generation, sealed, ring);
            let grant = grant.map_err(|source| WriteError::Unreadable {
                id: id.clone(),
                source,
            })?;
            let committed = self.writer.commit(&grant).await?;
            info!(installation = %id, ?committed, "an answer from the journal reached the store");
            self.committed(&grant, &committed);
        }
        self.forget(&entry.intent).await;
        let mut waiting = lock(&self.waiting);
        if waiting
            .get(id)
            .is_some_and(|kept| kept.intent == entry.intent)
        {
            waiting.remove(id);
        }
        Ok(())
    }

    fn committed(&self, grant: &Grant, committed: &Committed) -> Outcome {
        let id = &grant.installation;
        match committed {
            // A duplicate is most often our own write, whose acknowledgement was lost.
            Committed::Applied { .. } | Committed::Duplicate => {
                line::refreshed(id, grant);
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::Kept => {
                warn!(installation = %id, broker = self.name,
                    "the token chain moved on meanwhile: the granted token is kept as an alternate");
                Outcome::Superseded
            }
        }
    }

    /// Without its journal a broker would spend tokens that a crash loses: it stops, and others go
    /// on.
    fn journal_failed(&self, error: &DurableError) {
        error!(%error, "the journal cannot be written: this broker stops");
        self.shutdown.fail();
    }

    async fn fail(&self, begun: &Begun, failure: &Failure) -> Outcome {
        let attempt = Attempt {
            failures: begun.failures,
            is_repeat: begun.first_spent_at.is_some(),
            at: begun.began_at,
            jitter: f64::from(store::random::bytes::<1>()[0]) / 255.0,
            is_pair_proven: self.streak.is_pair_proven(),
        };
        let (kind, verdict) = judge(failure, attempt);
        let id = &begun.installation;
        if kind == FailureKind::ClientRejected && self.streak.refused(id) {
            self.trip(&verdict).await;
        }
        let given_back = self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await;
        match given_back {
            Ok(GaveBack::Noted(_)) => {
                line::failed(begun, kind, &verdict);
                Outcome::Failed(kind)
            }
            Ok(GaveBack::Superseded) => Outcome::Superseded,
            Ok(GaveBack::Adopted) => {
                warn!(installation = %id, "a refused token was replaced by one that had been kept");
                Outcome::Adopted
            }
            Err(error) => {
                line::failed(begun, kind, &verdict);
                unavailable(id, &error)
            }
        }
    }

    /// Pauses all brokers when GHL does not know our client pair any more.
    async fn trip(&self, verdict: &Verdict) {
        self.set_broken(true);
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
        line::failed(begun, FailureKind::Transient, &verdict);
        match self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await
        {
            Ok(_) => Outcome::Unavailable(reason.to_owned()),
            Err(error) => unavailable(id, &error),
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

fn unavailable(id: &InstallationId, error: &WriteError) -> Outcome {
    match error {
        // Nobody but a person can repair it.
        WriteError::Unreadable { .. } => line::unreadable(id, error),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
