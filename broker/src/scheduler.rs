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
use store_writer::backend::Upcoming;
use store_writer::writer::Wanted;
use store_writer::{StoreWriter, WriteError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::breaker::Way;
use crate::config::SchedulerConfig;
use crate::crash_point::{self, Step};
use crate::metrics;
use crate::outcome::Outcome;
use crate::worker::Worker;

/// The longest time between two looks: another broker may have scheduled something sooner.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest: what falls due in between is found together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
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
    ready: Gate,
    shutdown: Shutdown,
) {
    let mut scheduler = Scheduler {
        pace: Pace::new(config.rate),
        config,
        writer,
        worker,
        shutdown: shutdown.clone(),
    };
    let (mut is_away, mut missing) = (false, 0);
    loop {
        let wait = match scheduler.look().await {
            Ok((way, upcoming)) => {
                if std::mem::take(&mut is_away) {
                    info!("the store is back");
                    scheduler.worker.settle();
                }
                if upcoming.missing > 0 {
                    metrics::store_error("schedule");
                }
                if upcoming.missing < std::mem::replace(&mut missing, upcoming.missing) {
                    info!("a part of the store is back");
                    scheduler.worker.settle();
                }
                ready.open();
                scheduler.round(way, &upcoming).await
            }
            Err(error) => {
                ready.close();
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
            () = shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

struct Scheduler {
    config: SchedulerConfig,
    writer: StoreWriter,
    worker: Arc<Worker>,
    pace: Pace,
    shutdown: Shutdown,
}

impl Scheduler {
    /// What is due; nothing while all refreshes pause.
    async fn look(&self) -> Result<(Way, Upcoming), WriteError> {
        // In a Cluster it may be out of reach alone; what it last said holds until it is heard.
        let breaker = &self.worker.breaker;
        let way = breaker.look().await.unwrap_or_else(|_| breaker.last());
        let upcoming = match way {
            Way::Paused(pause) if !breaker.may_repeat(pause) => Upcoming::default(),
            Way::Free | Way::Probe | Way::Paused(_) => self.writer.upcoming().await?,
        };
        Ok((way, upcoming))
    }

    /// Starts the soonest of what is due, and tells when to look again.
    async fn round(&mut self, way: Way, upcoming: &Upcoming) -> Duration {
        if upcoming.due.is_empty() {
            let next = upcoming.next_in.unwrap_or(LONGEST_SLEEP);
            return next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        }
        if way == Way::Probe {
            self.probe(upcoming.due[0]).await;
            return LONGEST_SLEEP;
        }
        let wave = self.within(WAVE).min(upcoming.due.len());
        let mut wave = upcoming.due[..wave].to_vec();
        let elsewhere = usize::from(store::random::bytes::<1>()[0]) * wave.len() / 256;
        wave.rotate_left(elsewhere);
        let (mut left, mut started) = (wave.as_slice(), 0);
        while !left.is_empty() && !self.shutdown.is_started() && self.worker.breaker.may_start() {
            let slots = self.slots(left.len().min(self.within(CLAIM))).await;
            let (now, later) = left.split_at(slots.len());
            left = later;
            match self.start_some(now, slots).await {
                // Others were here already: better to look again.
                Ok(0) => break,
                Ok(claimed) => started += claimed,
                Err(error) => {
                    unclaimed(&error);
                    return SHORTEST_SLEEP;
                }
            }
        }
        match started {
            // Others have it all, or refreshes pause since.
            0 => SHORTEST_SLEEP,
            _ => Duration::ZERO,
        }
    }

    /// Starts the one refresh that finds out whether GHL takes the client pair again, unless
    /// another broker does.
    async fn probe(&self, (partition, by): (u8, Timestamp)) {
        let slots = self.slots(1).await;
        let claimed = async {
            if slots.is_empty() || !self.worker.breaker.may_probe().await? {
                return Ok(Vec::new());
            }
            let put_off = self.config.claim;
            self.writer.claim(partition, 1, by, put_off).await
        };
        match claimed.await {
            Ok(ids) => {
                for (id, slot) in ids.into_iter().zip(slots) {
                    self.start(id, slot, Way::Probe);
                }
            }
            Err(error) => unclaimed(&error),
        }
    }

    /// As much of `count` as the pace lets through in half a second: a claim must not run out, nor
    /// a look be stale, before its turn comes.
    fn within(&self, count: usize) -> usize {
        let half_a_second = usize::try_from(self.config.rate / 2).unwrap_or(usize::MAX);
        count.min(half_a_second).max(1)
    }

    /// At least one place among the refreshes under way (none once there are to be no more), at most
    /// `limit`: no more is claimed than can be worked on.
    async fn slots(&self, limit: usize) -> Vec<OwnedSemaphorePermit> {
        let mut slots: Vec<OwnedSemaphorePermit> = self.worker.slot().await.into_iter().collect();
        slots.extend(std::iter::from_fn(|| self.worker.try_slot()).take(limit - 1));
        slots
    }

    /// Starts what others have not claimed of `due`, and tells how many there were.
    async fn start_some(
        &mut self,
        due: &[(u8, Timestamp)],
        slots: Vec<OwnedSemaphorePermit>,
    ) -> Result<usize, WriteError> {
        let mut wanted: BTreeMap<u8, (usize, Timestamp)> = BTreeMap::new();
        for (partition, at) in due {
            let (count, by) = wanted.entry(*partition).or_insert((0, *at));
            *count += 1;
            *by = (*by).max(*at);
        }
        let put_off = self.config.claim;
        let claims = wanted
            .into_iter()
            .map(|(partition, (count, by))| self.writer.claim(partition, count, by, put_off));
        let claimed = try_join_all(claims).await?.concat();
        let started = claimed.len();
        for (id, slot) in claimed.into_iter().zip(slots) {
            self.pace.wait().await;
            self.start(id, slot, Way::Free);
        }
        Ok(started)
    }

    fn start(&self, id: InstallationId, slot: OwnedSemaphorePermit, way: Way) {
        let (worker, writer) = (self.worker.clone(), self.writer.clone());
        self.shutdown.spawn(async move {
            crash_point::reached(Step::Claimed);
            let outcome = match way {
                Way::Free | Way::Paused(_) => worker.refresh(&id, Wanted::Due).await,
                Way::Probe => worker.probe(&id, Wanted::Due).await,
            };
            if let Err(error) = settle(&writer, &id, outcome).await {
                // The claim runs out by itself.
                warn!(installation = %id, error = &error as &dyn std::error::Error, "the store");
            }
            drop(slot);
        });
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
            Some(snapshot) => writer.hasten(id, snapshot.now + wait).await,
            None => writer.unschedule(id).await,
        },
        Outcome::NotRefreshable(_) => writer.reschedule(id).await,
        Outcome::Unknown => writer.unschedule(id).await,
        Outcome::Refreshed { .. }
        | Outcome::Superseded
        | Outcome::NotDue(_)
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
