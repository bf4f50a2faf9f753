//! Finds due installations and refreshes them, the soonest first.
//!
//! The schedule is in the store. A broker keeps no timers, so its memory does not grow with the number of
//! installations.
//!
//! Each app has a schedule of its own, so a broker sees no installation of an app that it does not know.
//!
//! Brokers do not partition the work. All of them see the same schedule, and the first to claim an
//! installation refreshes it. Each broker starts at a random offset, so that they rarely collide.

mod shared;
mod update;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use service::locks::lock;
use store::{AppName, InstallationId, Timestamp};
use store_writer::WriteError;
use store_writer::backend::{DueEntries, DuePoll, Schedule};
use store_writer::writer::Wanted;
use tokio::time::sleep;
use tracing::{info, warn};

pub(crate) use shared::{Progress, Schedulers};
use update::update_schedule;

use crate::apps::App;
use crate::apps::identity::NotUsable;
use crate::metrics;
use crate::refresh::breaker::BreakerState;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::window::Slot;

/// The longest time between two polls. Another broker may have scheduled something sooner.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// The shortest time between two polls, so that installations that fall due meanwhile are found together.
const MIN_SLEEP: Duration = Duration::from_millis(50);
/// The time between two polls while GHL is slow.
const CONGESTED_SLEEP: Duration = Duration::from_millis(200);
/// How many installations of one poll are started before the next poll. A poll is a snapshot in order of
/// urgency, and other brokers work on the same snapshot.
const MAX_WAVE: usize = 256;
/// How many installations one claim takes.
const CLAIM_BATCH: usize = 16;

/// Refreshes the installations of an app until shutdown, or until the app is gone from the settings. Does nothing if that
/// goes on already.
pub(crate) async fn run(shared: Arc<Schedulers>, name: AppName) {
    loop {
        if !lock(&shared.running).insert(name.clone()) {
            return;
        }
        schedule(&shared, &name).await;
        shared.progress.ended(&name);
        lock(&shared.running).remove(&name);
        // It may have been added again since.
        let is_back = shared.worker.apps.named(&name).is_some();
        if shared.shutdown.is_started() || !is_back {
            return;
        }
    }
}

/// Refreshes the installations of an app until shutdown, or until the app is gone from the settings. Attempts that have
/// begun run to their end.
async fn schedule(shared: &Arc<Schedulers>, name: &AppName) {
    let shutdown = shared.shutdown.clone();
    tokio::select! {
        () = shutdown.started() => return,
        () = shared.worker.watch.wait_until_verified() => {}
    }
    shared.progress.advanced(name);
    let (mut is_away, mut missing) = (false, 0);
    // Its settings may change at any time.
    while let Some(app) = shared.worker.apps.named(name) {
        let scheduler = Scheduler { shared, app };
        let wait = match scheduler.poll().await {
            Ok(Some(poll)) => {
                if std::mem::take(&mut is_away) {
                    info!("the store is reachable again");
                    shared.worker.begin_settling();
                }
                if poll.missing > 0 {
                    metrics::store_error("schedule");
                }
                if poll.missing < std::mem::replace(&mut missing, poll.missing) {
                    info!("more partitions of the store are reachable again");
                    shared.worker.begin_settling();
                }
                scheduler.show_readiness(None);
                let wait = scheduler.dispatch(&poll).await;
                shared.progress.advanced(name);
                wait
            }
            // Another app has its name.
            Ok(None) => {
                shared.progress.advanced(name);
                MAX_SLEEP
            }
            Err(error) => {
                metrics::store_error("schedule");
                if !std::mem::replace(&mut is_away, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the store is unreachable: no token is refreshed"
                    );
                }
                MAX_SLEEP / 2
            }
        };
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

/// The scheduler of one app, for one poll.
struct Scheduler<'a> {
    shared: &'a Arc<Schedulers>,
    app: Arc<App>,
}

/// The result of one poll of the schedule.
struct Poll {
    breaker: BreakerState,
    /// Installations with an attempt whose outcome is unknown.
    unresolved: DuePoll,
    /// Installations whose token is due for a refresh.
    due: DuePoll,
    /// Whether an outage at GHL forbids to spend new tokens.
    is_contained: bool,
    /// How many partitions did not answer.
    missing: usize,
}

impl Scheduler<'_> {
    /// Reads what is due. Returns an empty schedule while all refreshes pause, and `None` while another app has the name of
    /// this one.
    async fn poll(&self) -> Result<Option<Poll>, WriteError> {
        match self.app.ensure_usable(&self.shared.writer).await {
            Ok(()) => {}
            // In a Cluster this slot can be unreachable alone. If the store is away, the next reads fail, too.
            Err(NotUsable::Store(error)) => self.app.identity.note_unreadable(&error),
            Err(taken @ NotUsable::NameTaken { .. }) => {
                self.show_readiness(Some(taken.to_string()));
                return Ok(None);
            }
        }
        // In a Cluster, the slot with the breaker can be unreachable alone. The cached state applies then.
        let shared = &self.app.breaker;
        let breaker = shared
            .poll()
            .await
            .unwrap_or_else(|_| shared.cached_state());
        let outage = &self.shared.worker.outage;
        // If the store is unreachable, the cached state applies.
        let _ = outage.poll().await;
        // If installations of this app have different client ids, each attempt looks at the breaker of its own.
        let breaker = match self.shared.worker.apps.current().has_sibling(&self.app) {
            true => BreakerState::Closed,
            false => breaker,
        };
        let is_paused = match breaker {
            BreakerState::Open(reason) => !shared.allows_retry(reason),
            BreakerState::Closed | BreakerState::HalfOpen => false,
        };
        if is_paused {
            return Ok(Some(Poll {
                breaker,
                unresolved: DuePoll::default(),
                due: DuePoll::default(),
                is_contained: outage.is_contained(),
                missing: 0,
            }));
        }
        let (writer, app) = (&self.shared.writer, &self.app.name);
        let unresolved = writer.poll_due(Schedule::OpenIntent, app).await?;
        let due = writer.poll_due(Schedule::Due, app).await?;
        Ok(Some(Poll {
            breaker,
            missing: unresolved.missing.max(due.missing),
            unresolved,
            due,
            is_contained: outage.is_contained(),
        }))
    }

    /// A broker is ready while it can use one of its apps.
    fn show_readiness(&self, name_taken: Option<String>) {
        let problem = match name_taken {
            Some(taken) => Some(taken),
            None if self.app.breaker.are_credentials_refused() => {
                let check = match self.app.name.is_default() {
                    true => "check GHL_CLIENT_ID and GHL_CLIENT_SECRET of this broker".to_owned(),
                    false => format!(
                        "check the client id and secrets of [apps.{}]",
                        self.app.name
                    ),
                };
                Some(check)
            }
            None => None,
        };
        self.app.identity.note_problem(problem);
        let apps = self.shared.worker.apps.current();
        let mut problems = apps.apps.iter().map(|app| app.identity.problem());
        match problems.clone().all(|problem| problem.is_some()) {
            true => {
                let first = problems.find_map(|problem| problem);
                self.shared.apps_gate.close(first.unwrap_or_default());
            }
            false => self.shared.apps_gate.open(),
        }
    }

    /// Starts attempts, unresolved ones first. Returns how long to sleep until the next poll.
    async fn dispatch(&self, poll: &Poll) -> Duration {
        // Without a claim, the other brokers can do the work.
        if self.shared.worker.ready_to_spend().is_err() {
            return MAX_SLEEP / 2;
        }
        let retried = self.start_unresolved(poll).await;
        let started = match (poll.breaker, poll.due.due.first()) {
            (BreakerState::HalfOpen, Some(first)) => {
                self.probe_credentials(*first).await;
                return MAX_SLEEP;
            }
            (_, None) => Dispatch::Nothing,
            (_, Some(first)) if poll.is_contained => self.probe_outage(*first).await,
            (BreakerState::Closed | BreakerState::Open(_), Some(_))
                if self.shared.worker.is_congested() =>
            {
                Dispatch::Congested
            }
            (BreakerState::Closed | BreakerState::Open(_), Some(_)) => self.start_due(poll).await,
        };
        match (retried, started) {
            (Dispatch::Started, _) | (_, Dispatch::Started) => Duration::ZERO,
            (Dispatch::Failed, _) | (_, Dispatch::Failed) => MIN_SLEEP,
            (Dispatch::Congested, _) | (_, Dispatch::Congested) => CONGESTED_SLEEP,
            (Dispatch::Nothing, Dispatch::Nothing) => poll.next_poll_in(),
        }
    }

    /// Retries the attempts whose outcome is unknown. They risk no new token.
    async fn start_unresolved(&self, poll: &Poll) -> Dispatch {
        let none_left = poll.unresolved.due.is_empty() && poll.unresolved.next_in.is_none();
        if poll.is_contained
            && none_left
            && poll.missing == 0
            && self.shared.is_nothing_in_doubt().await
        {
            self.shared.worker.outage.record_clear_response().await;
        }
        let mut left = poll.unresolved.due.as_slice();
        let mut outcome = Dispatch::Nothing;
        while !left.is_empty() && !self.shared.shutdown.is_started() {
            let slots: Vec<_> = std::iter::from_fn(|| self.shared.worker.try_retry_slot())
                .take(left.len().min(CLAIM_BATCH))
                .collect();
            if slots.is_empty() {
                break;
            }
            let (now, later) = left.split_at(slots.len());
            left = later;
            match self.claim(Schedule::OpenIntent, now).await {
                Ok(claimed) => {
                    for (id, slot) in claimed.into_iter().zip(slots) {
                        self.start(id, slot, AttemptKind::Refresh);
                        outcome = Dispatch::Started;
                    }
                }
                Err(error) => {
                    log_claim_failure(&error);
                    return Dispatch::Failed;
                }
            }
        }
        outcome
    }

    /// Starts due refreshes, as far as the window and the rate limit allow.
    async fn start_due(&self, poll: &Poll) -> Dispatch {
        let due = &poll.due.due;
        let wave = self.at_most_half_a_second(MAX_WAVE).min(due.len());
        let mut wave = due[..wave].to_vec();
        let offset = usize::from(store::random::bytes::<1>()[0]) * wave.len() / 256;
        wave.rotate_left(offset);
        let (mut left, mut outcome) = (wave.as_slice(), Dispatch::Nothing);
        while !left.is_empty() && self.may_continue() {
            let slots = self
                .acquire_slots(left.len().min(self.at_most_half_a_second(CLAIM_BATCH)))
                .await;
            // The wait for a slot may have been long.
            if !self.may_continue() {
                break;
            }
            let (now, later) = left.split_at(slots.len());
            left = later;
            match self.claim(Schedule::Due, now).await {
                // Other brokers have claimed these: a new poll is better than the next batch.
                Ok(claimed) if claimed.is_empty() => break,
                Ok(claimed) => {
                    outcome = Dispatch::Started;
                    self.shared.progress.advanced(&self.app.name);
                    for (id, slot) in claimed.into_iter().zip(slots) {
                        self.shared.rate_limiter.lock().await.wait().await;
                        self.start(id, slot, AttemptKind::Refresh);
                    }
                }
                Err(error) => {
                    log_claim_failure(&error);
                    return Dispatch::Failed;
                }
            }
        }
        match outcome {
            // Other brokers claimed everything, or refreshes paused meanwhile.
            Dispatch::Nothing => Dispatch::Failed,
            started => started,
        }
    }

    /// As for the poll, attempts of an app with several client ids look at the breaker of their own.
    fn may_start(&self) -> bool {
        let has_sibling = self.shared.worker.apps.current().has_sibling(&self.app);
        has_sibling || self.app.breaker.may_start()
    }

    fn may_continue(&self) -> bool {
        !self.shared.shutdown.is_started()
            && self.may_start()
            && !self.shared.worker.outage.is_contained()
            && !self.shared.worker.is_congested()
    }

    /// Starts the one refresh that tests whether GHL accepts the client credentials again, unless another
    /// broker does.
    async fn probe_credentials(&self, first: (u8, Timestamp)) {
        match self.app.breaker.try_acquire_probe().await {
            Ok(true) => {
                self.start_probe(first).await;
            }
            Ok(false) => {}
            Err(error) => log_claim_failure(&error),
        }
    }

    /// Starts the one refresh of a new token that tests whether GHL has recovered. Does nothing if it is
    /// too early or if another broker does it.
    async fn probe_outage(&self, first: (u8, Timestamp)) -> Dispatch {
        if self.shared.worker.outage.try_acquire_probe().await {
            self.start_probe(first).await
        } else {
            Dispatch::Nothing
        }
    }

    async fn start_probe(&self, first: (u8, Timestamp)) -> Dispatch {
        let Some(slot) = self.shared.worker.try_slot() else {
            return Dispatch::Nothing;
        };
        match self.claim(Schedule::Due, &[first]).await {
            Ok(claimed) => match claimed.into_iter().next() {
                Some(id) => {
                    self.start(id, slot, AttemptKind::Probe);
                    Dispatch::Started
                }
                None => Dispatch::Nothing,
            },
            Err(error) => {
                log_claim_failure(&error);
                Dispatch::Failed
            }
        }
    }

    /// Limits `count` to what the rate limit admits in half a second, but to at least one. Otherwise claims
    /// could expire and the poll could become stale while they wait.
    fn at_most_half_a_second(&self, count: usize) -> usize {
        let half_a_second = usize::try_from(self.shared.config.rate / 2).unwrap_or(usize::MAX);
        count.min(half_a_second).max(1)
    }

    /// Waits for one slot in the window and takes up to `limit` slots. No more is claimed than can be
    /// started.
    async fn acquire_slots(&self, limit: usize) -> Vec<Slot> {
        let mut slots = vec![self.shared.worker.slot().await];
        slots.extend(std::iter::from_fn(|| self.shared.worker.try_slot()).take(limit - 1));
        slots
    }

    /// Claims the installations of `due` that no other broker has claimed.
    async fn claim(
        &self,
        schedule: Schedule,
        due: &[(u8, Timestamp)],
    ) -> Result<Vec<InstallationId>, WriteError> {
        let claim_for = self.shared.config.claim;
        let claims = DueEntries::by_partition(due).into_iter().map(|due| {
            let writer = &self.shared.writer;
            writer.claim(schedule, &self.app.name, due, claim_for)
        });
        let claimed = try_join_all(claims).await?.concat();
        metrics::claimed(claimed.len());
        Ok(claimed)
    }

    /// Starts an attempt in a task of its own. `slot` is held until the attempt has ended.
    fn start(&self, id: InstallationId, slot: impl Send + 'static, kind: AttemptKind) {
        let (worker, writer) = (self.shared.worker.clone(), self.shared.writer.clone());
        let app = self.app.name.clone();
        self.shared.shutdown.spawn(async move {
            crash_point::reached(Step::Claimed);
            let outcome = match kind {
                AttemptKind::Refresh => worker.refresh(&id, Wanted::Due).await,
                AttemptKind::Probe => worker.probe(&id, Wanted::Due).await,
            };
            if let Err(error) = update_schedule(&writer, &id, &app, outcome).await {
                // The claim expires by itself.
                warn!(installation = %id, error = &error as &dyn std::error::Error,
                    "the schedule could not be updated");
            }
            drop(slot);
        });
    }
}

/// The purpose of an attempt.
#[derive(Clone, Copy)]
enum AttemptKind {
    Refresh,
    /// Tests how GHL responds although refreshes pause.
    Probe,
}

/// The refreshes that a dispatch started.
#[derive(Clone, Copy)]
enum Dispatch {
    Nothing,
    Started,
    /// Due installations could not be claimed: poll again soon.
    Failed,
    /// The window is congested.
    Congested,
}

impl Poll {
    fn next_poll_in(&self) -> Duration {
        let (doubt, due) = (self.unresolved.next_in, self.due.next_in);
        let next = doubt.into_iter().chain(due).min();
        next.unwrap_or(MAX_SLEEP).clamp(MIN_SLEEP, MAX_SLEEP)
    }
}

fn log_claim_failure(error: &WriteError) {
    warn!(
        error = error as &dyn std::error::Error,
        "due installations could not be claimed"
    );
}
