//! One refresh: lease → begin → journal → call → journal and escrow → commit → release.

mod answer;
pub(crate) mod doubt;
mod refusal;
mod rescue;

pub(crate) use rescue::NotRescued;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use doubt::Doubt;
use ghl::{Answer, Failure, TokenEndpoint};
use service::shutdown::Shutdown;
use store::InstallationId;
use store_writer::journal::Entry;
use store_writer::protocol::Refusal;
use store_writer::writer::{Begin, Begun, Wanted};
use store_writer::{Escrow, Grant, Journal, Lease, Leases, NotLeased, StoreWriter, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, debug_span, warn};

use crate::breaker::Breaker;
use crate::config::{Config, Timing};
use crate::crash_point::{self, Step};
use crate::line;
use crate::metrics;
use crate::outcome::Outcome;

/// How long a contended installation is left to whoever holds it.
const STEP_ASIDE: Duration = Duration::from_millis(500);
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    timing: Timing,
    pub(crate) writer: StoreWriter,
    leases: Leases,
    pub(crate) journal: Journal,
    pub(crate) escrow: Escrow,
    endpoint: TokenEndpoint,
    pub(crate) breaker: Breaker,
    /// Answers that the store has not taken yet, by installation. They are also in the journal.
    waiting: Mutex<HashMap<InstallationId, Entry>>,
    /// Answers that the store took a moment ago, and when. It may forget them in a failover.
    fresh: Mutex<VecDeque<(Instant, Entry)>>,
    /// Installations with an attempt of this process under way. A lease does not keep it from a second
    /// one: it may have been stopped past that, with the answer in its hand.
    under_way: Mutex<HashSet<InstallationId>>,
    /// Attempts whose answers were lost.
    doubts: Mutex<HashMap<InstallationId, Doubt>>,
    /// Bounds the refreshes under way, whoever asked for them.
    slots: Arc<Semaphore>,
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
        (journal, escrow): (Journal, Escrow),
        endpoint: TokenEndpoint,
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            name: config.name.clone(),
            timing: config.timing,
            breaker: Breaker::new(writer.clone()),
            writer,
            leases,
            journal,
            escrow,
            endpoint,
            waiting: Mutex::default(),
            fresh: Mutex::default(),
            under_way: Mutex::default(),
            doubts: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.scheduler.concurrency)),
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

    /// An answer that is to be committed before anything else happens to its installation.
    pub(crate) fn keep_waiting(&self, entry: Entry) {
        let mut waiting = lock(&self.waiting);
        let known = waiting.get(&entry.installation);
        // What is older is of no use any more: its token is spent.
        if known.is_none_or(|known| known.spent_generation <= entry.spent_generation) {
            waiting.insert(entry.installation.clone(), entry);
        }
    }

    pub(crate) fn waiting(&self) -> Vec<Entry> {
        lock(&self.waiting).values().cloned().collect()
    }

    /// Refreshes one installation, if it is to be and refreshes do not pause.
    ///
    /// Runs to its end once begun: call it in a task that nothing cancels.
    pub(crate) async fn refresh(&self, id: &InstallationId, wanted: Wanted) -> Outcome {
        let Some(pause) = self.breaker.pause() else {
            return self.probe(id, wanted).await;
        };
        if self.breaker.may_repeat(pause) {
            match self.writer.load(id).await {
                Ok(Some(known)) if known.installation.intent.is_some() => {
                    return self.probe(id, wanted).await;
                }
                Ok(_) => {}
                Err(error) => return unavailable(id, &error),
            }
        }
        Outcome::Unavailable(pause.as_str().to_owned())
    }

    /// As [`Worker::refresh`], although refreshes pause.
    pub(crate) async fn probe(&self, id: &InstallationId, wanted: Wanted) -> Outcome {
        let started = Instant::now();
        let outcome = match UnderWay::begin(&self.under_way, id) {
            Some(_under_way) => self.refresh_alone(id, wanted).await,
            None => Outcome::Busy(STEP_ASIDE),
        };
        metrics::record(&outcome, started.elapsed());
        outcome
    }

    async fn refresh_alone(&self, id: &InstallationId, wanted: Wanted) -> Outcome {
        match self.leases.take(id, self.timing.lease).await {
            Ok(lease) => {
                crash_point::reached(Step::Leased);
                let span = debug_span!("refresh", installation = id.as_str());
                let outcome = self.refresh_leased(&lease, wanted).instrument(span).await;
                self.leases.release(lease).await;
                crash_point::reached(Step::Released);
                outcome
            }
            Err(NotLeased::Held) => {
                self.share_doubt(id).await;
                Outcome::Busy(STEP_ASIDE)
            }
            Err(away @ (NotLeased::Unreachable { .. } | NotLeased::Misconfigured(_))) => {
                Outcome::Unavailable(away.to_string())
            }
        }
    }

    async fn refresh_leased(&self, lease: &Lease, wanted: Wanted) -> Outcome {
        let id = lease.installation();
        let waiting = lock(&self.waiting).get(id).cloned();
        if let Some(entry) = waiting {
            match self.commit_entry(&entry).await {
                Ok(()) => {}
                // It is no use, and must not hold the installation up.
                Err(error @ WriteError::Unreadable { .. }) => self.leave(&entry, &error),
                Err(error) => return unavailable(id, &error),
            }
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
        crash_point::reached(Step::Begun);
        // What somebody else may have got is looked for before the token is spent again.
        if begun.first_spent_at.is_some() || is_settling {
            match self.rescue(id).await {
                Ok(Some(generation)) => return Outcome::Refreshed { generation },
                Ok(None) => {}
                // GHL repeats its answer.
                Err(NotRescued::Unread(_)) if !begun.is_past_grace() => {}
                Err(unknown) => {
                    return self
                        .give_up(&begun, Refusal::Unknown, unknown.to_string())
                        .await;
                }
            }
        }
        self.spend(lease, &begun).await
    }

    async fn spend(&self, lease: &Lease, begun: &Begun) -> Outcome {
        let entry = Entry {
            intent: begun.intent.clone(),
            installation: begun.installation.clone(),
            spent_generation: begun.link.generation,
            lease: lease.value(),
            answer: None,
        };
        if let Err(error) = self.journal.note(&entry).await {
            self.journal_failed(&error);
            return self
                .give_up(begun, Refusal::Unspent, error.to_string())
                .await;
        }
        crash_point::reached(Step::IntentJournaled);
        // Others count on us starting nothing after the window, or after the lease.
        let left = self.timing.window.saturating_sub(lease.held_for());
        if left.min(lease.remaining()) < self.timing.call {
            let late = "there was no time left for the call";
            let outcome = self.give_up(begun, Refusal::Unspent, late.to_owned()).await;
            self.forget(&entry).await;
            return outcome;
        }
        match self.call(begun, &entry).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                self.doubt(begun, lease.since(), &failure);
                let outcome = self.fail(begun, &failure).await;
                self.forget(&entry).await;
                outcome
            }
        }
    }

    /// Spends the token, and brings what GHL grants to the store. The attempt is in the journal.
    async fn call(&self, begun: &Begun, entry: &Entry) -> Result<Outcome, Failure> {
        let user_type = begun.user_type.as_str();
        let call = self.endpoint.refresh(&begun.refresh_token, user_type);
        let answer = crash_point::while_waiting(call).await?;
        crash_point::reached(Step::Answered);
        let grant = grant(begun, answer);
        let answer = Some(grant.seal(&self.writer.rings().refresh));
        let entry = Entry {
            answer,
            ..entry.clone()
        };
        self.keep(&entry).await;
        self.no_doubt(begun);
        crash_point::reached(Step::AnswerJournaled);
        let outcome = self.commit(entry, &grant).await;
        self.breaker.succeeded(begun.began_at).await;
        Ok(outcome)
    }
}

/// An installation among those under way, until it is dropped.
struct UnderWay<'w> {
    all: &'w Mutex<HashSet<InstallationId>>,
    id: &'w InstallationId,
}

impl<'w> UnderWay<'w> {
    fn begin(all: &'w Mutex<HashSet<InstallationId>>, id: &'w InstallationId) -> Option<Self> {
        let is_first = lock(all).insert(id.clone());
        // Not made where it is not the first: dropped, it would end the other's.
        is_first.then(|| Self { all, id })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.all).remove(self.id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_under_way_once() {
        let (all, id) = (Mutex::default(), InstallationId::random());
        let first = UnderWay::begin(&all, &id).unwrap();
        for _ in 0..2 {
            assert!(UnderWay::begin(&all, &id).is_none());
        }
        drop(first);
        assert!(UnderWay::begin(&all, &id).is_some());
    }
}
