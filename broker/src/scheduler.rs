//! Finds what is due and has it refreshed, the soonest first. The schedule is in the store: nothing
//! is armed here, and the memory of a broker does not grow with installations.
//!
//! Nobody owns anything: brokers see the same work, whoever claims first has it, and each begins at
//! another place of what it sees, so that they seldom meet.

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

use crate::breaker::Way;
use crate::config::SchedulerConfig;
use crate::crash_point::{self, Step};
use crate::metrics;
use crate::outcome::Outcome;
use crate::window::Slot;
use crate::worker::Worker;

/// The longest time between two looks: another broker may have scheduled something sooner.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest: what falls due in between is found together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
/// Nothing changes for as long as GHL takes.
const STRAINED_SLEEP: Duration = Duration::from_millis(200);
/// How much of what a look found is started before the next look: what is due is in an order, and
/// others are at it too.
const WAVE: usize = 256;
/// How much is claimed at once.
const CLAIM: usize = 16;

/// Runs until shutdown. What it started goes on to its end.
pub(crate) async fn run(
    config: SchedulerConfig,
    writer: StoreWriter,
    worker: Arc<Worker>,
    gates: Gates,
    shutdown: Shutdown,
) {
    let mut scheduler = Scheduler {
        pace: Pace::new(config.rate),
        config,
        writer,
        worker,
        shutdown: shutdown.clone(),
    };
    tokio::select! {
        () = shutdown.started() => return,
        () = scheduler.worker.watch.known() => {}
    }
    let (mut is_away, mut missing) = (false, 0);
    loop {
        let wait = match scheduler.look().await {
            Ok(found) => {
                if std::mem::take(&mut is_away) {
                    info!("the store is back");
                    scheduler.worker.settle();
                }
                if found.missing > 0 {
                    metrics::store_error("schedule");
                }
                if found.missing < std::mem::replace(&mut missing, found.missing) {
                    info!("a part of the store is back");
                    scheduler.worker.settle();
                }
                gates.store.open();
                if scheduler.worker.breaker.are_credentials_refused() {
                    let reason = "check GHL_CLIENT_ID and GHL_CLIENT_SECRET of this broker";
                    gates.credentials.close_because(reason);
                } else {
                    gates.credentials.open();
                }
                scheduler.round(&found).await
            }
            Err(error) => {
                gates.store.close();
                metrics::store_error("schedule");
                if !std::mem::replace(&mut is_away, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the store is away, nothing is refreshed"
                    );
                }
                LONGEST_SLEEP / 2
            }
        };
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

/// What the schedule tells of whether this broker is ready.
pub(crate) struct Gates {
    /// The schedule can be read.
    pub store: Gate,
    /// GHL takes the client id and secret.
    pub credentials: Gate,
}

struct Scheduler {
    config: SchedulerConfig,
    writer: StoreWriter,
    worker: Arc<Worker>,
    pace: Pace,
    shutdown: Shutdown,
}

/// What a look found.
struct Found {
    way: Way,
    /// Attempts that have ended, or should have, with an unknown outcome.
    in_doubt: DuePoll,
    /// Tokens to be refreshed.
    due: DuePoll,
    /// Whether no new token is spent.
    is_contained: bool,
    /// How many partitions did not answer.
    missing: usize,
}

impl Scheduler {
    /// What is due; nothing while all refreshes pause.
    async fn look(&self) -> Result<Found, WriteError> {
        // In a Cluster it may be out of reach alone; what it last said holds until it is heard.
        let breaker = &self.worker.breaker;
        let way = breaker.look().await.unwrap_or_else(|_| breaker.last());
        let outages = &self.worker.outages;
        // What was known holds.
        let _ = outages.look().await;
        let is_paused = match way {
            Way::Paused(pause) => !breaker.may_repeat(pause),
            Way::Free | Way::Probe => false,
        };
        if is_paused {
            return Ok(Found {
                way,
                in_doubt: DuePoll::default(),
                due: DuePoll::default(),
                is_contained: outages.is_contained(),
                missing: 0,
            });
        }
        let in_doubt = self.writer.poll_due(Schedule::OpenIntent).await?;
        let due = self.writer.poll_due(Schedule::Due).await?;
        Ok(Found {
            way,
            missing: in_doubt.missing.max(due.missing),
            in_doubt,
            due,
            is_contained: outages.is_contained(),
        })
    }

    /// Starts the soonest of what is due, those in doubt first, and tells when to look again.
    async fn round(&mut self, found: &Found) -> Duration {
        // What is not claimed is left to the other brokers.
        if self.worker.ready_to_spend().is_err() {
            return LONGEST_SLEEP / 2;
        }
        let doubted = self.start_in_doubt(found).await;
        let started = match (found.way, found.due.due.first()) {
            (Way::Probe, Some(first)) => {
                self.probe_credentials(*first).await;
                return LONGEST_SLEEP;
            }
            (_, None) => Started::None,
            (_, Some(first)) if found.is_contained => self.probe_outage(*first).await,
            (Way::Free | Way::Paused(_), Some(_)) if self.worker.is_strained() => Started::Strained,
            (Way::Free | Way::Paused(_), Some(_)) => self.start_due(found).await,
        };
        match (doubted, started) {
            (Started::Some, _) | (_, Started::Some) => Duration::ZERO,
            (Started::Failed, _) | (_, Started::Failed) => SHORTEST_SLEEP,
            (Started::Strained, _) | (_, Started::Strained) => STRAINED_SLEEP,
            (Started::None, Started::None) => found.next_look(),
        }
    }

    /// Starts the attempts whose outcome is unknown. They risk no new token.
    async fn start_in_doubt(&mut self, found: &Found) -> Started {
        let nothing_left = found.in_doubt.due.is_empty() && found.in_doubt.next_in.is_none();
        if found.is_contained && nothing_left && found.missing == 0 {
            self.worker.outages.clear_answer().await;
        }
        let mut left = found.in_doubt.due.as_slice();
        let mut outcome = Started::None;
        while !left.is_empty() && !self.shutdown.is_started() {
            let slots: Vec<_> = std::iter::from_fn(|| self.worker.try_doubt_slot())
                .take(left.len().min(CLAIM))
                .collect();
            if slots.is_empty() {
                break;
            }
            let (now, later) = left.split_at(slots.len());
            left = later;
            match self.claim(Schedule::OpenIntent, now).await {
                Ok(claimed) => {
                    for (id, slot) in claimed.into_iter().zip(slots) {
                        self.start(id, slot, Kind::Refresh);
                        outcome = Started::Some;
                    }
                }
                Err(error) => {
                    unclaimed(&error);
                    return Started::Failed;
                }
            }
        }
        outcome
    }

    /// Starts what is due, as far as the window and the pace allow.
    async fn start_due(&mut self, found: &Found) -> Started {
        let due = &found.due.due;
        let wave = self.within(WAVE).min(due.len());
        let mut wave = due[..wave].to_vec();
        let elsewhere = usize::from(store::random::bytes::<1>()[0]) * wave.len() / 256;
        wave.rotate_left(elsewhere);
        let (mut left, mut outcome) = (wave.as_slice(), Started::None);
        while !left.is_empty() && self.may_go_on() {
            let slots = self.slots(left.len().min(self.within(CLAIM))).await;
            // The wait for a place may have been long.
            if !self.may_go_on() {
                break;
            }
            let (now, later) = left.split_at(slots.len());
            left = later;
            match self.claim(Schedule::Due, now).await {
                // Others were here already: better to look again.
                Ok(claimed) if claimed.is_empty() => break,
                Ok(claimed) => {
                    outcome = Started::Some;
                    for (id, slot) in claimed.into_iter().zip(slots) {
                        self.pace.wait().await;
                        self.start(id, slot, Kind::Refresh);
                    }
                }
                Err(error) => {
                    unclaimed(&error);
                    return Started::Failed;
                }
            }
        }
        match outcome {
            // Others have it all, or refreshes pause since.
            Started::None => Started::Failed,
            started => started,
        }
    }

    fn may_go_on(&self) -> bool {
        !self.shutdown.is_started()
            && self.worker.breaker.may_start()
            && !self.worker.outages.is_contained()
            && !self.worker.is_strained()
    }

    /// Starts the one refresh that finds out whether GHL takes the client credentials again, unless
    /// another broker does.
    async fn probe_credentials(&self, first: (u8, Timestamp)) {
        match self.worker.breaker.may_probe().await {
            Ok(true) => {
                self.start_probe(first).await;
            }
            Ok(false) => {}
            Err(error) => unclaimed(&error),
        }
    }

    /// Starts the one new refresh that finds out whether GHL is well again, if it is time, unless
    /// another broker does.
    async fn probe_outage(&self, first: (u8, Timestamp)) -> Started {
        if self.worker.outages.may_probe().await {
            self.start_probe(first).await
        } else {
            Started::None
        }
    }

    async fn start_probe(&self, first: (u8, Timestamp)) -> Started {
        let Some(slot) = self.worker.try_slot() else {
            return Started::None;
        };
        match self.claim(Schedule::Due, &[first]).await {
            Ok(claimed) => match claimed.into_iter().next() {
                Some(id) => {
                    self.start(id, slot, Kind::Probe);
                    Started::Some
                }
                None => Started::None,
            },
            Err(error) => {
                unclaimed(&error);
                Started::Failed
            }
        }
    }

    /// As much of `count` as the pace lets through in half a second: a claim must not run out, nor
    /// a look be stale, before its turn comes.
    fn within(&self, count: usize) -> usize {
        let half_a_second = usize::try_from(self.config.rate / 2).unwrap_or(usize::MAX);
        count.min(half_a_second).max(1)
    }

    /// At least one place among the refreshes in flight, at most `limit`: no more is claimed than can
    /// be worked on.
    async fn slots(&self, limit: usize) -> Vec<Slot> {
        let mut slots = vec![self.worker.slot().await];
        slots.extend(std::iter::from_fn(|| self.worker.try_slot()).take(limit - 1));
        slots
    }

    /// Takes what others have not claimed of `due`.
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
        let put_off = self.config.claim;
        let claims = wanted.into_iter().map(|(partition, (count, by))| {
            self.writer.claim(schedule, partition, count, by, put_off)
        });
        Ok(try_join_all(claims).await?.concat())
    }

    /// `slot` is kept until the attempt has ended.
    fn start(&self, id: InstallationId, slot: impl Send + 'static, kind: Kind) {
        let (worker, writer) = (self.worker.clone(), self.writer.clone());
        self.shutdown.spawn(async move {
            crash_point::reached(Step::Claimed);
            let outcome = match kind {
                Kind::Refresh => worker.refresh(&id, Wanted::Due).await,
                Kind::Probe => worker.probe(&id, Wanted::Due).await,
            };
            if let Err(error) = settle(&writer, &id, outcome).await {
                // The claim runs out by itself.
                warn!(installation = %id, error = &error as &dyn std::error::Error, "the store");
            }
            drop(slot);
        });
    }
}

/// What a started attempt is for.
#[derive(Clone, Copy)]
enum Kind {
    Refresh,
    /// To find out how GHL answers, although refreshes pause.
    Probe,
}

/// Whether anything was started.
#[derive(Clone, Copy)]
enum Started {
    None,
    Some,
    /// Not what there was: it is worth another look soon.
    Failed,
    /// GHL does not answer as usual.
    Strained,
}

impl Found {
    fn next_look(&self) -> Duration {
        let (doubt, due) = (self.in_doubt.next_in, self.due.next_in);
        let next = doubt.into_iter().chain(due).min();
        next.unwrap_or(LONGEST_SLEEP)
            .clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }
}

fn unclaimed(error: &WriteError) {
    warn!(
        error = error as &dyn std::error::Error,
        "what is due could not be claimed"
    );
}

/// Sees to what the attempt itself left to the schedule.
async fn settle(
    writer: &StoreWriter,
    id: &InstallationId,
    outcome: Outcome,
) -> Result<(), WriteError> {
    match outcome {
        // Sooner than the claim runs out, in case the holder is dead.
        Outcome::Busy(wait) => match writer.load(id).await? {
            Some(snapshot) => writer.reschedule_earlier(id, snapshot.now + wait).await,
            None => writer.unschedule(id).await,
        },
        Outcome::NotRefreshable(_) => writer.reschedule(id).await,
        Outcome::Unknown => writer.unschedule(id).await,
        Outcome::Refreshed { .. }
        | Outcome::Superseded
        | Outcome::NotDue(_)
        | Outcome::Held
        | Outcome::Failed(_)
        | Outcome::Adopted
        | Outcome::Journaled
        | Outcome::Unavailable(_) => Ok(()),
    }
}

/// Lets at most `rate` starts a second through, evenly.
struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / rate,
            next: Instant::now(),
        }
    }

    async fn wait(&mut self) {
        let now = Instant::now();
        // A tenth of a second may be caught up with, so that a busy moment does not lower the rate.
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
    async fn the_pace_is_kept() {
        let mut pace = Pace::new(100);
        let started = Instant::now();
        for _ in 0..500 {
            pace.wait().await;
        }
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(4850), "{elapsed:?}");
        assert!(elapsed <= Duration::from_millis(5100), "{elapsed:?}");
    }
}
