//! One refresh: lease → begin → journal → call → journal and escrow → commit → release.

mod answer;
pub(crate) mod doubt;
mod late;
mod open_calls;
mod ready;
mod refusal;
mod rescue;
mod under_way;

pub(crate) use rescue::NotRescued;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use answer::{Fresh, grant, unless_foreign};
use doubt::Doubt;
use ghl::token_endpoint::{Call, within};
use ghl::{Answer, Failure, TokenEndpoint};
use open_calls::{Gate, OpenCalls};
use refusal::unavailable;
use service::shutdown::Shutdown;
use store::clock::Moment;
use store::{InstallationId, Timestamp, TokenReader};
use store_writer::journal::Entry;
use store_writer::protocol::FailureClass;
use store_writer::writer::{Begin, Begun, Conditions, Wanted};
use store_writer::{Escrow, Journal, Lease, Leases, NotLeased, StoreWriter, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{Instrument, debug_span};
use under_way::UnderWay;

use crate::breaker::Breaker;
use crate::config::{Config, Timing};
use crate::crash_point::{self, Step};
use crate::metrics;
use crate::outage::Outages;
use crate::outcome::Outcome;
use crate::store_watch::{StoreWatch, Unverified};
use crate::window::{Slot, Window};

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
    pub(crate) outages: Outages,
    /// Answers that the store has not taken yet, by installation. They are also in the journal.
    waiting: Mutex<BTreeMap<InstallationId, Entry>>,
    /// Answers that the store took a moment ago. It may forget them in a failover.
    fresh: Mutex<VecDeque<Fresh>>,
    /// Whether the store is ours, and whether it may have lost something.
    pub(crate) watch: StoreWatch,
    /// Installations with an attempt of this process under way. A lease does not keep it from a second
    /// one: it may have been stopped past that, with the answer in its hand.
    under_way: Mutex<BTreeSet<InstallationId>>,
    /// Attempts whose answers were lost.
    doubts: Mutex<BTreeMap<InstallationId, Doubt>>,
    /// Calls whose answer may still come.
    open_calls: OpenCalls,
    /// Bounds the new tokens in flight, whoever asked for a refresh.
    window: Arc<Window>,
    /// Bounds what goes on for installations in doubt: they risk nothing new.
    doubt_slots: Arc<Semaphore>,
    /// Until when the store counts as just come back.
    settling: Mutex<Instant>,
    shutdown: Shutdown,
    #[cfg(feature = "simulation")]
    rules: crate::simulation::Rules,
}

/// After an outage, and after a start, brokers first commit what their journals hold.
const SETTLING: Duration = Duration::from_secs(5);

impl Worker {
    pub(crate) fn new(
        config: &Config,
        writer: StoreWriter,
        reader: TokenReader,
        leases: Leases,
        (journal, escrow): (Journal, Escrow),
        endpoint: TokenEndpoint,
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            name: config.name.clone(),
            timing: config.timing,
            breaker: Breaker::new(writer.clone(), endpoint.credentials(), config.timing.grace),
            outages: Outages::new(writer.clone(), reader),
            watch: StoreWatch::new(&writer, &journal, escrow.is_enabled(), shutdown),
            writer,
            leases,
            journal,
            escrow,
            endpoint,
            waiting: Mutex::default(),
            fresh: Mutex::default(),
            under_way: Mutex::default(),
            doubts: Mutex::default(),
            open_calls: OpenCalls::default(),
            window: Window::new(config.scheduler.concurrency),
            doubt_slots: Arc::new(Semaphore::new(config.scheduler.concurrency)),
            settling: Mutex::new(Instant::now() + SETTLING),
            shutdown: shutdown.clone(),
            #[cfg(feature = "simulation")]
            rules: crate::simulation::Rules::ALL,
        }
    }

    /// Takes away the rules that are not in `rules`.
    #[cfg(feature = "simulation")]
    pub(crate) fn under(mut self, rules: crate::simulation::Rules) -> Self {
        if !rules.containment {
            self.outages.is_ignored = true;
            self.window = Window::unbounded();
        }
        self.rules = rules;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A place among the new tokens in flight.
    pub(crate) async fn slot(&self) -> Slot {
        self.window.enter().await
    }

    /// As [`Worker::slot`], without waiting.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        self.window.try_enter()
    }

    /// Whether what can wait should: GHL does not answer as usual.
    pub(crate) fn is_strained(&self) -> bool {
        self.window.is_strained()
    }

    /// A place for an installation in doubt, if there is one.
    pub(crate) fn try_doubt_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.doubt_slots.clone().try_acquire_owned().ok()
    }

    /// The store has just come back: others may be about to commit what they hold.
    pub(crate) fn settle(&self) {
        *lock(&self.settling) = Instant::now() + SETTLING;
        self.watch.is_back();
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
    pub(crate) async fn refresh(self: &Arc<Self>, id: &InstallationId, wanted: Wanted) -> Outcome {
        let Some(pause) = self.breaker.pause() else {
            return self.attempt(id, wanted, Risk::Normal).await;
        };
        if self.breaker.may_repeat(pause) {
            match self.writer.load(id).await {
                Ok(Some(known)) if known.installation.intent.is_some() => {
                    return self.attempt(id, wanted, Risk::Normal).await;
                }
                Ok(_) => {}
                Err(error) => return unavailable(id, &error),
            }
        }
        Outcome::Unavailable(pause.as_str().to_owned())
    }

    /// As [`Worker::refresh`], although refreshes pause or no new token is spent.
    pub(crate) async fn probe(self: &Arc<Self>, id: &InstallationId, wanted: Wanted) -> Outcome {
        self.attempt(id, wanted, Risk::Probe).await
    }

    async fn attempt(self: &Arc<Self>, id: &InstallationId, wanted: Wanted, risk: Risk) -> Outcome {
        // An attempt that could not be made would write to the store all the same.
        if let Err(reason) = self.ready_to_spend() {
            return Outcome::Unavailable(reason.to_string());
        }
        let started = Instant::now();
        let outcome = match UnderWay::begin(&self.under_way, id) {
            Some(_under_way) => self.refresh_alone(id, wanted, risk).await,
            None => Outcome::Busy(STEP_ASIDE),
        };
        metrics::record(&outcome, started.elapsed());
        outcome
    }

    async fn refresh_alone(
        self: &Arc<Self>,
        id: &InstallationId,
        wanted: Wanted,
        risk: Risk,
    ) -> Outcome {
        if let Gate::Wait(wait) = self.gate(id).await {
            return Outcome::Busy(wait);
        }
        match self.leases.take(id, self.timing.lease).await {
            Ok(lease) => {
                crash_point::reached(Step::Leased);
                let span = debug_span!("refresh", installation = id.as_str());
                let outcome = self.refresh_leased(&lease, wanted, risk);
                let outcome = outcome.instrument(span).await;
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

    /// Whether this process may send the installation's token, or waits for an answer to it.
    async fn gate(&self, id: &InstallationId) -> Gate {
        let gate = self.open_calls.gate(id);
        if let (Gate::Wait(_), Some(open)) = (gate, self.open_calls.link(id))
            && let Ok(Some(known)) = self.writer.load(id).await
            && known.installation.link().as_ref() != Some(&open)
        {
            // Somebody else was faster.
            self.open_calls.superseded(id, &open);
            return Gate::Free;
        }
        gate
    }

    async fn refresh_leased(
        self: &Arc<Self>,
        lease: &Lease,
        wanted: Wanted,
        risk: Risk,
    ) -> Outcome {
        let id = lease.installation();
        if let Err(error) = self.watch.recognised() {
            return unavailable(id, &error);
        }
        let waiting = lock(&self.waiting).get(id).cloned();
        if let Some(entry) = waiting {
            match self.commit_entry(&entry).await {
                Ok(()) => {}
                // It is no use, and must not hold the installation up.
                Err(error @ (WriteError::Unreadable { .. } | WriteError::Unwritable { .. })) => {
                    self.leave(&entry, &error);
                }
                Err(error) => return unavailable(id, &error),
            }
        }
        if let Some(left) = self.watch.pause_left() {
            // Where no attempt is open, nothing is urgent.
            match self.writer.load(id).await {
                Ok(Some(known)) if known.installation.intent.is_none() => {
                    return Outcome::Busy(left.max(STEP_ASIDE));
                }
                Ok(_) => {}
                Err(error) => return unavailable(id, &error),
            }
        }
        let is_settling = Instant::now() < *lock(&self.settling) || self.watch.is_cautious();
        let conditions = Conditions {
            holder: &self.name,
            window: self.timing.window,
            wanted,
            is_after_outage: is_settling,
            may_spend_new: match risk {
                Risk::Normal => !self.outages.is_contained(),
                Risk::Probe => true,
            },
            grace: self.timing.grace,
        };
        let begun = match self.writer.begin(lease, conditions).await {
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
            Ok(Begin::Deferred) => return Outcome::Held,
            Ok(Begin::NotRefreshable(status)) => return Outcome::NotRefreshable(status),
            Ok(Begin::Unknown) => return Outcome::Unknown,
            Err(error) => return unavailable(id, &error),
        };
        crash_point::reached(Step::Begun);
        if let Some(outcome) = self.put_right(&begun).await {
            return outcome;
        }
        let is_cautious = self.watch.is_cautious();
        // What somebody else may have got is looked for before the token is spent again.
        if begun.first_spent_at.is_some() || is_settling || is_cautious {
            match self.rescue(id).await {
                Ok(Some(generation)) => return Outcome::Refreshed { generation },
                Ok(None) => {}
                // Who else has an answer cannot be told.
                Err(unread @ NotRescued::Unread(_))
                    if is_cautious && begun.first_spent_at.is_none() =>
                {
                    self.writer.withdraw(&begun).await;
                    return Outcome::Unavailable(unread.to_string());
                }
                // GHL repeats its answer.
                Err(NotRescued::Unread(_)) if !begun.is_past_grace() => {}
                Err(unknown) => {
                    return self
                        .give_up(&begun, FailureClass::Unknown, unknown.to_string())
                        .await;
                }
            }
        }
        self.spend(lease, *begun).await
    }

    /// Before a token is spent: what the store has lost of this installation is brought back, or others
    /// are given time to do so. `None`: the token may be spent.
    async fn put_right(&self, begun: &Begun) -> Option<Outcome> {
        match self.restore_before(begun).await {
            Ok(None) => {}
            Ok(Some(generation)) => return Some(Outcome::Refreshed { generation }),
            Err(error) => {
                self.writer.withdraw(begun).await;
                return Some(unavailable(&begun.installation, &error));
            }
        }
        // Inside the grace GHL repeats its answer, and soon does not any more.
        let is_urgent = begun.first_spent_at.is_some() && !begun.is_past_grace();
        let outcome = match self.watch.clear().await {
            Ok(()) => return None,
            Err(Unverified::Restoring(_)) if is_urgent => return None,
            Err(Unverified::Restoring(left)) => Outcome::Busy(left.max(STEP_ASIDE)),
            Err(unverified) => Outcome::Unavailable(unverified.to_string()),
        };
        self.writer.withdraw(begun).await;
        Some(outcome)
    }

    async fn spend(self: &Arc<Self>, lease: &Lease, begun: Begun) -> Outcome {
        let entry = Entry::asked(
            begun.intent.clone(),
            begun.installation.clone(),
            begun.link.generation,
            lease.value(),
        );
        if let Err(reason) = self.ready_to_spend() {
            let reason = reason.to_string();
            return self.give_up(&begun, FailureClass::Unspent, reason).await;
        }
        if let Err(error) = self.journal.note(&entry).await {
            self.journal_failed(&error);
            return self
                .give_up(&begun, FailureClass::Unspent, error.to_string())
                .await;
        }
        crash_point::reached(Step::IntentJournaled);
        // Others count on us starting nothing after the window, or after the lease.
        let left = self.timing.window.saturating_sub(lease.held_for());
        if left.min(lease.remaining()) < self.timing.call {
            let late = "there was no time left for the call";
            let outcome = self
                .give_up(&begun, FailureClass::Unspent, late.to_owned())
                .await;
            self.forget(&entry).await;
            return outcome;
        }
        match self.call(&begun, lease.since()).await {
            Called::Answered(answer) => {
                // Not now: this process may have been stopped with the answer in its hand.
                let well_at = begun.began_at;
                self.granted(&begun, &entry, *answer, well_at).await
            }
            Called::Failed(failure) => {
                self.doubt(&begun, lease.since(), &failure);
                let outcome = self.fail(&begun, &failure, None).await;
                self.finish_failed(&entry, &failure).await;
                outcome
            }
            #[cfg(feature = "simulation")]
            Called::Late(call) if !self.rules.late_answers => {
                drop(call);
                self.open_calls.closed(&begun);
                let failure = late();
                self.doubt(&begun, lease.since(), &failure);
                let outcome = self.fail(&begun, &failure, None).await;
                self.forget(&entry).await;
                outcome
            }
            Called::Late(call) => {
                let failure = late();
                self.doubt(&begun, lease.since(), &failure);
                let outcome = self.fail(&begun, &failure, Some(&self.name)).await;
                self.read_late(begun, entry, call);
                outcome
            }
        }
    }

    /// Sends the token, and waits for a while. The attempt is in the journal.
    async fn call(&self, begun: &Begun, since: Moment) -> Called {
        let user_type = begun.user_type.as_str();
        let mut call = self.endpoint.refresh(&begun.refresh_token, user_type);
        self.open_calls.opened(begun, since);
        let waited = within(self.timing.call, &mut call);
        let answered = crash_point::while_waiting(waited).await;
        let Some(answered) = answered else {
            return Called::Late(call);
        };
        self.open_calls.closed(begun);
        match answered.and_then(|answer| unless_foreign(begun, answer)) {
            Ok(answer) => Called::Answered(Box::new(answer)),
            Err(failure) => Called::Failed(failure),
        }
    }

    /// Brings what GHL granted to the store. That it granted it says that it was well at `well_at`.
    async fn granted(
        &self,
        begun: &Begun,
        entry: &Entry,
        answer: Answer,
        well_at: Timestamp,
    ) -> Outcome {
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
        self.open_calls.superseded(&begun.installation, &begun.link);
        self.window.succeeded();
        self.outages.succeeded(well_at).await;
        self.breaker.succeeded(begun.began_at).await;
        outcome
    }
}

/// What became of a call.
enum Called {
    Answered(Box<Answer>),
    Failed(Failure),
    /// Its answer has not come yet.
    Late(Call),
}

fn late() -> Failure {
    Failure::Lost("GHL has not answered yet; its answer is waited for".into())
}

/// What an attempt may risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Risk {
    Normal,
    /// It is to find out how GHL answers.
    Probe,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
