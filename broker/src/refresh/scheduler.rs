//! Finds due installations and refreshes them, the soonest first.
//!
//! The schedule is in the store. A broker keeps no timers, so its memory does not grow with the number of
//! installations.
//!
//! Brokers do not partition the work. All of them see the same schedule, and the first to claim an
//! installation refreshes it. Each broker starts at a random offset, so that they rarely collide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use service::readiness::Gate;
use service::shutdown::Shutdown;
use store::{InstallationId, Timestamp};
use store_writer::backend::{DuePoll, Schedule};
use store_writer::writer::Wanted;
use store_writer::{StoreWriter, WriteError};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::SchedulerConfig;
use crate::metrics;
use crate::refresh::breaker::BreakerState;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::outcome::Outcome;
use crate::refresh::window::Slot;
use crate::refresh::worker::Worker;

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

/// Runs until shutdown. Attempts that have begun run to their end.
pub(crate) async fn run(
    config: SchedulerConfig,
    writer: StoreWriter,
    worker: Arc<Worker>,
    gates: Gates,
    shutdown: Shutdown,
) {
    let mut scheduler = Scheduler {
        rate_limiter: RateLimiter::new(config.rate),
        config,
        writer,
        worker,
        shutdown: shutdown.clone(),
    };
    tokio::select! {
        () = shutdown.started() => return,
        () = scheduler.worker.watch.wait_until_verified() => {}
    }
    let (mut is_away, mut missing) = (false, 0);
    loop {
        let wait = match scheduler.poll().await {
            Ok(poll) => {
                if std::mem::take(&mut is_away) {
                    info!("the store is reachable again");
                    scheduler.worker.begin_settling();
                }
                if poll.missing > 0 {
                    metrics::store_error("schedule");
                }
                if poll.missing < std::mem::replace(&mut missing, poll.missing) {
                    info!("more partitions of the store are reachable again");
                    scheduler.worker.begin_settling();
                }
                gates.store.open();
                if scheduler.worker.breaker.are_credentials_refused() {
                    let reason = "check GHL_CLIENT_ID and GHL_CLIENT_SECRET of this broker";
                    gates.credentials.close_because(reason);
                } else {
                    gates.credentials.open();
                }
                scheduler.dispatch(&poll).await
            }
            Err(error) => {
                gates.store.close();
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

/// The readiness gates that the scheduler controls.
pub(crate) struct Gates {
    /// Open while the schedule can be read.
    pub store: Gate,
    /// Open while GHL accepts the client credentials.
    pub credentials: Gate,
}

struct Scheduler {
    config: SchedulerConfig,
    writer: StoreWriter,
    worker: Arc<Worker>,
    rate_limiter: RateLimiter,
    shutdown: Shutdown,
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

impl Scheduler {
    /// Reads what is due. Returns an empty schedule while all refreshes pause.
    async fn poll(&self) -> Result<Poll, WriteError> {
        // In a Cluster, the slot with the breaker can be unreachable alone. The cached state applies then.
        let shared = &self.worker.breaker;
        let breaker = shared
            .poll()
            .await
            .unwrap_or_else(|_| shared.cached_state());
        let outage = &self.worker.outage;
        // If the store is unreachable, the cached state applies.
        let _ = outage.poll().await;
        let is_paused = match breaker {
            BreakerState::Open(reason) => !shared.allows_retry(reason),
            BreakerState::Closed | BreakerState::HalfOpen => false,
        };
        if is_paused {
            return Ok(Poll {
                breaker,
                unresolved: DuePoll::default(),
                due: DuePoll::default(),
                is_contained: outage.is_contained(),
                missing: 0,
            });
        }
        let unresolved = self.writer.poll_due(Schedule::OpenIntent).await?;
        let due = self.writer.poll_due(Schedule::Due).await?;
        Ok(Poll {
            breaker,
            missing: unresolved.missing.max(due.missing),
            unresolved,
            due,
            is_contained: outage.is_contained(),
        })
    }

    /// Starts attempts, unresolved ones first. Returns how long to sleep until the next poll.
    async fn dispatch(&mut self, poll: &Poll) -> Duration {
        // Without a claim, the other brokers can do the work.
        if self.worker.ready_to_spend().is_err() {
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
                if self.worker.is_congested() =>
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
    async fn start_unresolved(&mut self, poll: &Poll) -> Dispatch {
        let none_left = poll.unresolved.due.is_empty() && poll.unresolved.next_in.is_none();
        if poll.is_contained && none_left && poll.missing == 0 {
            self.worker.outage.record_clear_response().await;
        }
        let mut left = poll.unresolved.due.as_slice();
        let mut outcome = Dispatch::Nothing;
        while !left.is_empty() && !self.shutdown.is_started() {
            let slots: Vec<_> = std::iter::from_fn(|| self.worker.try_retry_slot())
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
    async fn start_due(&mut self, poll: &Poll) -> Dispatch {
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
                    for (id, slot) in claimed.into_iter().zip(slots) {
                        self.rate_limiter.wait().await;
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

    fn may_continue(&self) -> bool {
        !self.shutdown.is_started()
            && self.worker.breaker.may_start()
            && !self.worker.outage.is_contained()
            && !self.worker.is_congested()
    }

    /// Starts the one refresh that tests whether GHL accepts the client credentials again, unless another
    /// broker does.
    async fn probe_credentials(&self, first: (u8, Timestamp)) {
        match self.worker.breaker.try_acquire_probe().await {
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
        if self.worker.outage.try_acquire_probe().await {
            self.start_probe(first).await
        } else {
            Dispatch::Nothing
        }
    }

    async fn start_probe(&self, first: (u8, Timestamp)) -> Dispatch {
        let Some(slot) = self.worker.try_slot() else {
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
        let half_a_second = usize::try_from(self.config.rate / 2).unwrap_or(usize::MAX);
        count.min(half_a_second).max(1)
    }

    /// Waits for one slot in the window and takes up to `limit` slots. No more is claimed than can be
    /// started.
    async fn acquire_slots(&self, limit: usize) -> Vec<Slot> {
        let mut slots = vec![self.worker.slot().await];
        slots.extend(std::iter::from_fn(|| self.worker.try_slot()).take(limit - 1));
        slots
    }

    /// Claims the installations of `due` that no other broker has claimed.
    async fn claim(
        &self,
        schedule: Schedule,
        due: &[(u8, Timestamp)],
    ) -> Result<Vec<InstallationId>, WriteError> {
        let mut wanted: BTreeMap<u8, (usize, Timestamp)> = BTreeMap::new();
        for (partition, at) in due {
            let (count, by) = wanted.entry(*partition).or_insert((0, *at));
            *count += 1;
            *by = (*by).max(*at);
        }
        let claim_for = self.config.claim;
        let claims = wanted.into_iter().map(|(partition, (count, by))| {
            self.writer.claim(schedule, partition, count, by, claim_for)
        });
        Ok(try_join_all(claims).await?.concat())
    }

    /// Starts an attempt in a task of its own. `slot` is held until the attempt has ended.
    fn start(&self, id: InstallationId, slot: impl Send + 'static, kind: AttemptKind) {
        let (worker, writer) = (self.worker.clone(), self.writer.clone());
        self.shutdown.spawn(async move {
            crash_point::reached(Step::Claimed);
            let outcome = match kind {
                AttemptKind::Refresh => worker.refresh(&id, Wanted::Due).await,
                AttemptKind::Probe => worker.probe(&id, Wanted::Due).await,
            };
            if let Err(error) = update_schedule(&writer, &id, outcome).await {
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

/// Updates the schedule after the attempts that do not update it themselves.
async fn update_schedule(
    writer: &StoreWriter,
    id: &InstallationId,
    outcome: Outcome,
) -> Result<(), WriteError> {
    match outcome {
        // Retry before the claim expires, in case the holder of the lease is dead.
        Outcome::Busy(wait) => match writer.load(id).await? {
            Some(snapshot) => writer.reschedule_earlier(id, snapshot.now + wait).await,
            None => writer.unschedule(id).await,
        },
        Outcome::NotRefreshable(_) => writer.reschedule(id).await,
        Outcome::UnknownInstallation => writer.unschedule(id).await,
        Outcome::Refreshed { .. }
        | Outcome::Superseded
        | Outcome::NotDue(_)
        | Outcome::RateLimited(_)
        | Outcome::Contained
        | Outcome::Failed(_)
        | Outcome::Adopted
        | Outcome::Journaled
        | Outcome::Unavailable(_) => Ok(()),
    }
}

/// Admits at most `rate` starts per second, evenly spaced.
struct RateLimiter {
    gap: Duration,
    next: Instant,
}

impl RateLimiter {
    fn new(rate: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / rate,
            next: Instant::now(),
        }
    }

    async fn wait(&mut self) {
        let now = Instant::now();
        // Allow a burst of 100 ms after a delay, so that a busy moment does not lower the rate.
        self.next = self
            .next
            .max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
        tokio::time::sleep_until(self.next).await;
        self.next += self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_follow_the_configured_rate() {
        let mut rate_limiter = RateLimiter::new(100);
        let started = Instant::now();
        for _ in 0..500 {
            rate_limiter.wait().await;
        }
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(4850), "{elapsed:?}");
        assert!(elapsed <= Duration::from_millis(5100), "{elapsed:?}");
    }
}
