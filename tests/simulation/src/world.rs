//! The shared state of a run: its clock, its random numbers, its log.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::Timestamp;
use store::simulation::Random;
use tokio::time::Instant;

use super::log::Log;

/// The wall clock at the begin of a run, an arbitrary date.
const EPOCH: i64 = 1_750_000_000_000;

#[derive(Clone, Debug)]
pub(super) struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    random: Mutex<Random>,
    log: Mutex<Log>,
    violations: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, is_log_kept: bool) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            random: Mutex::new(Random::new(seed)),
            log: Mutex::new(Log::new(is_log_kept)),
            violations: Mutex::default(),
        }))
    }

    pub(super) fn epoch() -> Timestamp {
        Timestamp::from_millis(EPOCH)
    }

    /// The wall clock at the begin of the run, since the Unix epoch.
    pub(super) fn wall_at_start() -> Duration {
        Self::epoch().since(Timestamp::from_millis(0))
    }

    /// The time since the begin of the run.
    pub(super) fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// The true wall clock, which no fault changes.
    pub(super) fn time(&self) -> Timestamp {
        Self::epoch() + self.now()
    }

    pub(super) async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.0.started + at).await;
    }

    /// A number below `limit`, which is above 0.
    pub(super) fn below(&self, limit: u64) -> u64 {
        lock(&self.0.random).next() % limit
    }

    /// A duration in whole milliseconds, excluding `to` unless it equals `from`.
    pub(super) fn between(&self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.below(span.max(1)))
    }

    pub(super) fn log(&self, event: fmt::Arguments<'_>) {
        lock(&self.0.log).add(self.now(), event);
    }

    pub(super) fn comment(&self, text: &str) {
        lock(&self.0.log).comment(self.now(), text);
    }

    /// Records a violated invariant.
    pub(super) fn violation(&self, what: String) {
        self.log(format_args!("VIOLATION {what}"));
        lock(&self.0.violations).push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        lock(&self.0.violations).clone()
    }

    pub(super) fn hash(&self) -> u64 {
        lock(&self.0.log).hash()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.0.log).lines().to_vec()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
