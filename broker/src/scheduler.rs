//! Finds what is due and has it refreshed. The schedule is in the store: nothing is armed here,
//! and the memory of a broker does not grow with installations.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use service::readiness::Gate;
use service::shutdown::Shutdown;
use store::{InstallationId, keys};
use store_writer::backend::Upcoming;
use store_writer::writer::Wanted;
use store_writer::{StoreWriter, WriteError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::SchedulerConfig;
use crate::metrics;
use crate::outcome::Outcome;
use crate::worker::Worker;

/// The longest time between two looks: another broker may have scheduled something sooner.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest: what falls due in between is found together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
/// How much is taken from a partition at once.
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
        order: rendezvous_order(&config.name),
        pace: Pace::new(config.rate),
        config,
        writer,
        worker,
        shutdown: shutdown.clone(),
    };
    let mut is_away = false;
    loop {
        let wait = match scheduler.look().await {
            Ok(upcoming) => {
                if std::mem::take(&mut is_away) {
                    info!("the store is back");
                    scheduler.worker.settle();
                }
                if upcoming.is_partial {
                    // What comes back next was away as well.
                    metrics::store_error("schedule");
                    scheduler.worker.settle();
                }
                ready.open();
                scheduler.round(&upcoming).await
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
    order: Vec<u8>,
    pace: Pace,
    shutdown: Shutdown,
}

impl Scheduler {
    /// What is due; nothing while refreshes pause.
    async fn look(&self) -> Result<Upcoming, WriteError> {
        // In a Cluster it may be out of reach alone; what it last said holds until it is heard.
        let breaker = self.writer.breaker().await;
        let is_broken = breaker.map_or(self.worker.is_broken(), |reason| reason.is_some());
        metrics::breaker(is_broken);
        self.worker.set_broken(is_broken);
        if is_broken {
            return Ok(Upcoming::default());
        }
        self.writer.upcoming().await
    }

    /// Starts what is due, and tells when to look again.
    async fn round(&mut self, upcoming: &Upcoming) -> Duration {
        for partition in self.order.clone() {
            if !upcoming.due.contains(&partition) {
                continue;
            }
            let is_suspect = self.worker.streak.is_suspect();
            if self.shutdown.is_started() || self.worker.is_broken() {
                break;
            }
            match self
                .start_some(partition, if is_suspect { 1 } else { CLAIM })
                .await
            {
                // One attempt finds out whether GHL knows us again.
                Ok(started) if is_suspect && started > 0 => return LONGEST_SLEEP,
                Ok(_) => {}
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "what is due could not be claimed"
                    );
                    break;
                }
            }
        }
        if upcoming.due.is_empty() {
            let next = upcoming.next_in.unwrap_or(LONGEST_SLEEP);
            next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
        } else {
            SHORTEST_SLEEP
        }
    }

    /// Starts up to `limit` of a partition, and tells how many. No more is claimed than can be
    /// worked on.
    async fn start_some(&mut self, partition: u8, limit: usize) -> Result<usize, WriteError> {
        let mut slots: Vec<OwnedSemaphorePermit> = self.worker.slot().await.into_iter().collect();
        slots.extend(std::iter::from_fn(|| self.worker.try_slot()).take(limit - 1));
        let claim = self.config.claim;
        let claimed = self.writer.claim(partition, slots.len(), claim).await?;
        let started = claimed.len();
        for (id, slot) in claimed.into_iter().zip(slots) {
            self.pace.wait().await;
            self.start(id, slot);
        }
        Ok(started)
    }

    fn start(&self, id: InstallationId, slot: OwnedSemaphorePermit) {
        let (worker, writer) = (self.worker.clone(), self.writer.clone());
        self.shutdown.spawn(async move {
            let outcome = worker.refresh(&id, Wanted::Due).await;
            if let Err(error) = settle(&writer, &id, outcome).await {
                // The claim runs out by itself.
                warn!(installation = %id, error = &error as &dyn std::error::Error, "the store");
            }
            drop(slot);
        });
    }
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

/// All partitions in this broker's own order: brokers begin in different places and seldom meet.
/// A preference, not ownership; the claim itself decides.
fn rendezvous_order(broker: &str) -> Vec<u8> {
    let weight = |partition: u8| {
        let text = format!("{broker} {partition}");
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        digest.as_ref().to_vec()
    };
    let mut order: Vec<u8> = (0..keys::PARTITIONS)
        .filter_map(|p| u8::try_from(p).ok())
        .collect();
    order.sort_by_cached_key(|partition| weight(*partition));
    order
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

    #[test]
    fn every_broker_visits_all_partitions_in_an_order_of_its_own() {
        let (one, two) = (rendezvous_order("b1"), rendezvous_order("b2"));
        assert_ne!(one, two);
        assert_eq!(one, rendezvous_order("b1"));
        let mut sorted = one;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=u8::MAX).collect::<Vec<_>>());
    }

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
