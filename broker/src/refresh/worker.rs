//! One refresh: lease → begin → journal → call GHL → journal and escrow → commit → release.

mod commit;
mod entry_points;
mod escrow_recovery;
mod failure;
mod in_progress;
mod late_response;
pub(crate) mod lost_response;
mod open_calls;
mod pause;
mod pending_consents;
mod readiness;
pub(super) mod spend;

pub(crate) use escrow_recovery::EscrowError;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commit::RecentCommit;
pub(crate) use failure::unavailable;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use ghl::AgencyApi;
use in_progress::InProgressGuard;
use lost_response::LostResponse;
use open_calls::{OpenCalls, SendPermission};
use service::locks::lock;
use service::permits;
use service::shutdown::Shutdown;
use service::trace::TraceContext;
use store::{InstallationId, Status, TokenReader};
use store_writer::installation::Installation;
use store_writer::journal::Entry;
use store_writer::protocol::FailureClass;
use store_writer::writer::{Begin, Begun, Conditions, Wanted};
use store_writer::{Escrow, Journal, Lease, Leases, NotLeased, StoreWriter, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::agency::mint::LocationRefresh;
use crate::agency::{AgencyState, AgencyTurns};
use crate::apps::{App, Apps};
use crate::config::{Config, Timing};
use crate::metrics;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outage::OutageDetector;
use crate::refresh::outcome::Outcome;
use crate::refresh::refresh_log;
use crate::refresh::spans;
use crate::refresh::store_watch::{StoreWatch, Unverified};
use crate::refresh::window::{Slot, Window};
use crate::sealing::journal::RingChanges;

/// The most mints in flight. GHL's limit of each agency is far lower.
const MINTS: usize = 256;

/// The most lists of locations in flight. Each writes to the store as fast as GHL gives pages.
const LISTS: usize = 8;

/// How long an attempt backs off from an installation that another attempt holds.
const CONTENTION_BACKOFF: Duration = Duration::from_millis(500);

/// Runs refreshes, and keeps the state of this process that they share.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    timing: Timing,
    pub(crate) writer: StoreWriter,
    leases: Leases,
    pub(crate) journal: Journal,
    pub(crate) escrow: Escrow,
    pub(crate) apps: Arc<Apps>,
    agency_api: AgencyApi,
    /// Bounds the mints in flight.
    mint_slots: Arc<Semaphore>,
    /// Bounds the lists of locations in flight.
    pub(crate) list_slots: Semaphore,
    pub(crate) ring_changes: RingChanges,
    /// Held while a call for an agency is counted.
    pub(crate) agency_turns: AgencyTurns,
    pub(crate) reader: TokenReader,
    pub(crate) outage: OutageDetector,
    /// Responses that the store has not taken yet, by installation. They are also in the journal.
    uncommitted: Mutex<BTreeMap<InstallationId, Entry>>,
    /// Responses that the store took a moment ago. A failover may lose them.
    recent_commits: Mutex<VecDeque<RecentCommit>>,
    /// The identity of the store, and whether it may have lost writes.
    pub(crate) watch: StoreWatch,
    /// Installations with an attempt of this process in progress. The lease excludes other brokers only. A
    /// paused process can outlive its own lease while it holds a response.
    in_progress: Mutex<BTreeSet<InstallationId>>,
    /// Attempts whose response was lost.
    lost_responses: Mutex<BTreeMap<InstallationId, LostResponse>>,
    /// Calls whose response may still come.
    open_calls: OpenCalls,
    /// Bounds the new tokens in flight, for scheduled and requested refreshes alike.
    window: Arc<Window>,
    /// Bounds the retries of unresolved installations. They risk no new token.
    retry_slots: Arc<Semaphore>,
    /// How many of them there are.
    most_retries: Mutex<usize>,
    /// Until when the store counts as just reachable again.
    settling: Mutex<Instant>,
    pub(crate) shutdown: Shutdown,
    #[cfg(feature = "simulation")]
    rules: crate::refresh::rules::Rules,
}

/// After an outage of the store, and after a start, brokers get this long to commit their journals first.
const SETTLING_TIME: Duration = Duration::from_secs(5);

impl Worker {
    pub(crate) fn new(
        config: &Config,
        writer: StoreWriter,
        reader: TokenReader,
        leases: Leases,
        (journal, escrow): (Journal, Escrow),
        (apps, agency_api): (Arc<Apps>, AgencyApi),
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            name: config.name.clone(),
            timing: config.timing,
            outage: OutageDetector::new(writer.clone(), reader.clone()),
            watch: StoreWatch::new(&writer, &journal, escrow.is_enabled(), shutdown),
            writer,
            leases,
            journal,
            escrow,
            apps,
            agency_api,
            mint_slots: Arc::new(Semaphore::new(MINTS)),
            list_slots: Semaphore::new(LISTS),
            ring_changes: RingChanges::default(),
            agency_turns: AgencyTurns::default(),
            reader,
            uncommitted: Mutex::default(),
            recent_commits: Mutex::default(),
            in_progress: Mutex::default(),
            lost_responses: Mutex::default(),
            open_calls: OpenCalls::default(),
            window: Window::new(config.scheduler.concurrency),
            retry_slots: Arc::new(Semaphore::new(config.scheduler.concurrency)),
            most_retries: Mutex::new(config.scheduler.concurrency),
            settling: Mutex::new(Instant::now() + SETTLING_TIME),
            shutdown: shutdown.clone(),
            #[cfg(feature = "simulation")]
            rules: crate::refresh::rules::Rules::ALL,
        }
    }

    /// Switches off the rules that are not in `rules`.
    #[cfg(feature = "simulation")]
    pub(crate) fn with_rules(mut self, rules: crate::refresh::rules::Rules) -> Self {
        if !rules.containment {
            self.outage.is_ignored = true;
            self.window = Window::unbounded();
        }
        self.rules = rules;
        self
    }

    pub(crate) fn agency_api(&self) -> &AgencyApi {
        &self.agency_api
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A refresh that may begin: waits here, so that a client that disconnects leaves the queue. A mint needs no place in
    /// the window, since it spends no refresh token. Slow mints must not hold up the refreshes of others.
    pub(crate) async fn admitted(
        self: Arc<Self>,
        id: InstallationId,
        wanted: Wanted,
    ) -> BoxFuture<'static, Outcome> {
        let is_mint = match self.writer.load(&id).await {
            Ok(Some(known)) => self.is_minted(&known.installation).await,
            Ok(None) => false,
            Err(error) => return ready(unavailable(&id, &error)).boxed(),
        };
        let (slot, mint_slot) = match is_mint {
            true => (None, self.mint_slots.clone().acquire_owned().await.ok()),
            false => (Some(self.slot().await), None),
        };
        let asked_by = TraceContext::current();
        Box::pin(async move {
            let _slots = (slot, mint_slot);
            self.refresh_for(&asked_by, &id, wanted).await
        })
    }

    /// Whether its token is minted with that of an agency. Otherwise it spends a refresh token of its own.
    async fn is_minted(&self, installation: &Installation) -> bool {
        match &installation.access.parent {
            Some(parent) => matches!(self.agency_state(parent).await, Ok(AgencyState::Works)),
            None => false,
        }
    }

    /// Waits for a slot in the window of new tokens in flight.
    pub(crate) async fn slot(&self) -> Slot {
        self.window.acquire().await
    }

    /// As [`Worker::slot`], without waiting.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        self.window.try_acquire()
    }

    /// Whether the scheduler must hold back, see [`Window::is_congested`].
    pub(crate) fn is_congested(&self) -> bool {
        self.window.is_congested()
    }

    /// Changes the most refreshes in flight, at least 1.
    pub(crate) fn set_concurrency(&self, most: usize) {
        self.window.set_max(most);
        let mut retries = lock(&self.most_retries);
        permits::resize(&self.retry_slots, *retries, most);
        *retries = most;
    }

    /// A slot to retry an unresolved installation, if one is free.
    pub(crate) fn try_retry_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.retry_slots.clone().try_acquire_owned().ok()
    }

    /// Records that the store is reachable again. Other brokers may be about to commit their responses.
    pub(crate) fn begin_settling(&self) {
        *lock(&self.settling) = Instant::now() + SETTLING_TIME;
        self.watch.request_restore_after_outage();
    }

    /// Queues a response. It is committed before anything else happens to its installation.
    pub(crate) fn queue_commit(&self, entry: Entry) {
        let mut uncommitted = lock(&self.uncommitted);
        let known = uncommitted.get(&entry.installation);
        // An older response is useless, because its token is spent.
        if known.is_none_or(|known| known.spent_generation <= entry.spent_generation) {
            uncommitted.insert(entry.installation.clone(), entry);
        }
    }

    /// The responses that the store has not taken yet.
    pub(crate) fn uncommitted(&self) -> Vec<Entry> {
        lock(&self.uncommitted).values().cloned().collect()
    }

    async fn refresh_unless_paused(
        self: &Arc<Self>,
        id: &InstallationId,
        wanted: Wanted,
    ) -> Outcome {
        let apps = self.apps.current();
        let is_any_paused = apps
            .apps
            .iter()
            .any(|app| app.breaker.pause_reason().is_some());
        if is_any_paused {
            match self.writer.load(id).await {
                Ok(Some(known)) => {
                    if let Some((app, pause)) = self.pause_of(&known.installation).await {
                        return self.paused(id, wanted, &app, pause).await;
                    }
                }
                Ok(None) => return Outcome::UnknownInstallation,
                Err(error) => return unavailable(id, &error),
            }
        }
        self.attempt(id, wanted, Risk::Normal).await
    }

    /// With the client id that the token is sent with, also if an older build stored it without one. The settings may change
    /// while the attempt is under way.
    fn with_client(&self, mut begun: Box<Begun>) -> Box<Begun> {
        let app = self.app_of(&begun);
        begun.client = begun.client.take().or(app.map(|app| app.client.clone()));
        begun
    }

    /// The app of an attempt. `None` if it is gone since the attempt began.
    pub(crate) fn app_of(&self, begun: &Begun) -> Option<Arc<App>> {
        self.apps.of_token(&begun.app, begun.client.as_ref())
    }

    async fn attempt(self: &Arc<Self>, id: &InstallationId, wanted: Wanted, risk: Risk) -> Outcome {
        // Check before the attempt writes to the store.
        if let Err(reason) = self.ready_to_spend() {
            metrics::obstructed(Obstacle::File);
            return Outcome::Unavailable(Obstacle::File, reason.to_string());
        }
        let started = Instant::now();
        let outcome = match InProgressGuard::begin(&self.in_progress, id) {
            Some(_under_way) => self.refresh_exclusively(id, wanted, risk).await,
            None => Outcome::Busy(CONTENTION_BACKOFF),
        };
        metrics::attempt(&outcome, started.elapsed());
        outcome
    }

    async fn refresh_exclusively(
        self: &Arc<Self>,
        id: &InstallationId,
        wanted: Wanted,
        risk: Risk,
    ) -> Outcome {
        if let SendPermission::Wait(wait) = self.send_permission(id).await {
            return Outcome::Busy(wait);
        }
        let taken = spans::lease(self.leases.take(id, self.timing.lease)).await;
        metrics::lease_asked(&taken);
        match taken {
            Ok(lease) => {
                crash_point::reached(Step::Leased);
                let outcome = self.refresh_leased(&lease, wanted, risk, false).await;
                if lease.remaining().is_zero() {
                    metrics::lease_expired();
                }
                self.leases.release(lease).await;
                crash_point::reached(Step::Released);
                outcome
            }
            Err(NotLeased::Held) => {
                self.adopt_lost_response(id).await;
                Outcome::Busy(CONTENTION_BACKOFF)
            }
            Err(away @ (NotLeased::Unreachable { .. } | NotLeased::Misconfigured(_))) => {
                Outcome::Unavailable((&away).into(), away.to_string())
            }
        }
    }

    /// Whether this process may send the installation's token, or still waits for a response to it.
    async fn send_permission(&self, id: &InstallationId) -> SendPermission {
        let permission = self.open_calls.permission(id);
        if let (SendPermission::Wait(_), Some(open)) = (permission, self.open_calls.link(id))
            && let Ok(Some(known)) = self.writer.load(id).await
            && known.installation.link().as_ref() != Some(&open)
        {
            // Another attempt was faster.
            self.open_calls.forget(id, &open);
            return SendPermission::Allowed;
        }
        permission
    }

    async fn refresh_leased(
        self: &Arc<Self>,
        lease: &Lease,
        wanted: Wanted,
        risk: Risk,
        is_orphan: bool,
    ) -> Outcome {
        let id = lease.installation();
        if let Err(error) = self.watch.ensure_verified() {
            return unavailable(id, &error);
        }
        let waiting = lock(&self.uncommitted).get(id).cloned();
        if let Some(entry) = waiting {
            match self.commit_entry(&entry).await {
                Ok(()) => {}
                // A retry does not help, and the response must not block the installation.
                Err(error @ (WriteError::Unreadable { .. } | WriteError::Unwritable { .. })) => {
                    self.leave_in_journal(&entry, &error);
                }
                Err(error) => return unavailable(id, &error),
            }
        }
        if let Some(left) = self.watch.pause_left() {
            // Without an open attempt, nothing is urgent.
            match self.writer.load(id).await {
                Ok(Some(known)) if known.installation.intent.is_none() => {
                    return Outcome::Busy(left.max(CONTENTION_BACKOFF));
                }
                Ok(_) => {}
                Err(error) => return unavailable(id, &error),
            }
        }
        let is_settling = Instant::now() < *lock(&self.settling) || self.watch.is_cautious();
        let known_apps = self.apps.current().known();
        let conditions = Conditions {
            holder: &self.name,
            apps: &known_apps,
            window: self.timing.window,
            wanted,
            is_after_outage: is_settling,
            may_spend_new: match risk {
                Risk::Normal => !self.outage.is_contained(),
                Risk::Probe => true,
            },
            grace: self.timing.grace,
            is_orphan,
        };
        let begun = match spans::intent(self.writer.begin(lease, conditions)).await {
            Ok(Begin::Go(begun)) => begun,
            Ok(Begin::Busy { .. }) => return Outcome::Busy(CONTENTION_BACKOFF),
            Ok(Begin::Superseded) => return Outcome::Superseded,
            Ok(Begin::NotDue(due)) => {
                // The claim moved it in the schedule: move it back.
                return match self.writer.reschedule(id).await {
                    Ok(()) => Outcome::NotDue(due),
                    Err(error) => unavailable(id, &error),
                };
            }
            Ok(Begin::Deferred) => return Outcome::Contained,
            Ok(Begin::ListDue) => {
                // In a task of its own, since it takes long and needs no lease.
                self.shutdown.spawn(self.clone().list_locations(id.clone()));
                return Outcome::Superseded;
            }
            Ok(Begin::Derived(parent)) => {
                let refreshed = Box::pin(self.refresh_location(id, &parent, wanted)).await;
                return match refreshed {
                    LocationRefresh::Done(outcome) => outcome,
                    LocationRefresh::SpendOwnToken => {
                        Box::pin(self.refresh_leased(lease, wanted, risk, true)).await
                    }
                };
            }
            Ok(Begin::NotRefreshable(status)) => return Outcome::NotRefreshable(status),
            Ok(Begin::UnknownApp) => return Outcome::UnknownApp,
            Ok(Begin::OldToken) => {
                refresh_log::old_token(id);
                return Outcome::NotRefreshable(Status::Static);
            }
            Ok(Begin::Unknown) => return Outcome::UnknownInstallation,
            Err(error) => return unavailable(id, &error),
        };
        let begun = self.with_client(begun);
        crash_point::reached(Step::Begun);
        if begun.is_takeover {
            metrics::taken_over();
        }
        if let Some(outcome) = self.restore_before_spending(&begun).await {
            return outcome;
        }
        let is_cautious = self.watch.is_cautious();
        // Look for a response of another broker before the token is spent again.
        if begun.first_spent_at.is_some() || is_settling || is_cautious {
            match self.recover_from_escrow(id).await {
                Ok(Some(generation)) => return Outcome::Refreshed { generation },
                Ok(None) => {}
                // It is unknown whether another broker has a response.
                Err(unread @ EscrowError::Unread(_))
                    if is_cautious && begun.first_spent_at.is_none() =>
                {
                    self.writer.withdraw(&begun).await;
                    return Outcome::Unavailable(Obstacle::NoQuorum, unread.to_string());
                }
                // GHL replays its response, so the retry is safe.
                Err(EscrowError::Unread(_)) if !begun.is_past_grace() => {}
                Err(unknown) => {
                    let (class, reason) = (FailureClass::Unknown, unknown.to_string());
                    return self.abort(&begun, class, (&unknown).into(), reason).await;
                }
            }
        }
        self.spend(lease, *begun).await
    }

    /// Restores what the store has lost of this installation, or gives other brokers time to do so. `None`
    /// if the token may be spent.
    async fn restore_before_spending(&self, begun: &Begun) -> Option<Outcome> {
        match self.restore_newer_response(begun).await {
            Ok(None) => {}
            Ok(Some(generation)) => return Some(Outcome::Refreshed { generation }),
            Err(error) => {
                self.writer.withdraw(begun).await;
                return Some(unavailable(&begun.installation, &error));
            }
        }
        // Within its grace period GHL replays its response, and the period ends soon.
        let is_urgent = begun.first_spent_at.is_some() && !begun.is_past_grace();
        let outcome = match self.watch.check_may_spend().await {
            Ok(()) => return None,
            Err(Unverified::Restoring(_)) if is_urgent => return None,
            Err(Unverified::Restoring(left)) => Outcome::Busy(left.max(CONTENTION_BACKOFF)),
            Err(unverified) => Outcome::Unavailable((&unverified).into(), unverified.to_string()),
        };
        self.writer.withdraw(begun).await;
        Some(outcome)
    }
}

/// Whether an attempt may ignore a pause or an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Risk {
    Normal,
    /// It tests how GHL responds.
    Probe,
}
