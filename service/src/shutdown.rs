//! Graceful shutdown in three phases.
//!
//! 1. Drain: the process is not ready any more, and still serves, so that load balancers notice.
//! 2. After `start` no new work is accepted or begun. Work in flight is finished within a deadline.
//! 3. Only then does the process end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::readiness::Readiness;

/// The shutdown of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    work: TaskTracker,
    failed: Arc<AtomicBool>,
    refusal: Arc<OnceLock<String>>,
    /// The simulated process that all its work belongs to.
    #[cfg(feature = "simulation")]
    process: crate::simulation::Process,
}

impl Shutdown {
    /// A shutdown that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The shutdown of a simulated process.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn of(process: crate::simulation::Process) -> Self {
        Self {
            process,
            ..Self::default()
        }
    }

    /// Starts on SIGTERM or SIGINT, after the process has not been ready for the time `drain`. A second signal ends that
    /// time. From now on neither signal ends the process by itself, so the caller must bound the shutdown by a deadline.
    pub fn on_signals(&self, readiness: &Readiness, drain: Duration) {
        let (shutdown, readiness) = (self.clone(), readiness.clone());
        // Installed here and not in the task, so that no signal is missed before the task runs.
        match Signals::listen() {
            Ok(mut signals) => drop(tokio::spawn(async move {
                tokio::select! {
                    name = signals.next() => {
                        shutdown.drain(&readiness, drain, name, signals.next()).await;
                        info!(signal = name, "shutting down");
                        shutdown.start();
                    }
                    () = shutdown.started() => readiness.stop(),
                }
            })),
            Err(reason) => {
                error!(%reason, "cannot listen for signals: SIGTERM will not be graceful")
            }
        }
    }

    /// Serves on for the time `drain`, without being ready. `second`: resolves with the next signal.
    async fn drain(
        &self,
        readiness: &Readiness,
        drain: Duration,
        signal: &'static str,
        second: impl Future<Output = &'static str>,
    ) {
        readiness.stop();
        if drain.is_zero() {
            return;
        }
        info!(
            signal,
            ?drain,
            "not ready any more, and serving on while load balancers notice; a second signal ends this"
        );
        tokio::select! {
            () = sleep(drain) => {}
            _ = second => {}
            () = self.started() => {}
        }
    }

    /// Starts the shutdown. A second call changes nothing.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Starts because of a failure that requires a new process.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.start();
    }

    /// Starts because this process must not work with what it found. A new process would do the same until somebody
    /// has repaired it. The first reason counts.
    pub fn refuse(&self, reason: String) {
        let _ = self.refusal.set(reason);
        self.start();
    }

    /// The reason of [`refuse`](Self::refuse).
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.refusal.get().cloned()
    }

    /// Whether the shutdown was started by [`fail`](Self::fail).
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Resolves once the shutdown has started.
    pub async fn started(&self) {
        self.token.cancelled().await;
    }

    /// Whether it has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Spawns work that the shutdown waits for. The work must watch [`started`](Self::started) and return when it has
    /// finished cleanly, since nothing aborts it.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[cfg(feature = "simulation")]
        let work = self.process.clone().run(work);
        let handle = self.work.spawn(work);
        #[cfg(feature = "simulation")]
        self.process.owns(handle.abort_handle());
        handle
    }

    /// Waits, once started, until all tracked work has ended, including work that was spawned meanwhile. Returns false
    /// if the deadline, counted from this call, came first.
    #[must_use = "work may be left"]
    pub async fn finished(&self, deadline: Duration) -> bool {
        self.work.close();
        timeout(deadline, self.work.wait()).await.is_ok()
    }
}

/// The signals that stop a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::Instant;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const DRAIN: Duration = Duration::from_secs(5);

    async fn drained(drain: Duration, second: impl Future<Output = &'static str>) -> Duration {
        let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
        let begun = Instant::now();
        let drained = shutdown.drain(&readiness, drain, "SIGTERM", second);
        drained.await;
        assert_eq!(readiness.reasons()[0].name, "stopping");
        assert!(!shutdown.is_started());
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn process_serves_unready_for_the_drain_or_until_the_second_signal() {
        assert_eq!(drained(DRAIN, pending()).await, DRAIN);
        assert_eq!(drained(DRAIN, ready("SIGTERM")).await, Duration::ZERO);
        assert_eq!(drained(Duration::ZERO, pending()).await, Duration::ZERO);
        let second = async {
            sleep(DRAIN / 5).await;
            "SIGINT"
        };
        assert_eq!(drained(DRAIN, second).await, DRAIN / 5);
    }

    #[tokio::test(start_paused = true)]
    async fn failure_ends_the_drain() {
        let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
        let failing = shutdown.clone();
        let begun = Instant::now();
        tokio::join!(
            shutdown.drain(&readiness, DRAIN, "SIGTERM", pending()),
            async {
                sleep(DRAIN / 5).await;
                failing.fail();
            }
        );
        assert_eq!(begun.elapsed(), DRAIN / 5);
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_flight_is_finished() {
        let shutdown = Shutdown::new();
        let work = shutdown.spawn({
            let shutdown = shutdown.clone();
            async move {
                shutdown.started().await;
                sleep(Duration::from_secs(5)).await;
                "committed"
            }
        });
        assert!(!shutdown.is_started());
        shutdown.start();
        assert!(shutdown.is_started());
        assert!(shutdown.finished(DEADLINE).await);
        assert_eq!(work.await.unwrap(), "committed");
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_ends_the_wait() {
        let shutdown = Shutdown::new();
        let stuck = shutdown.spawn(pending::<()>());
        shutdown.start();
        let begun = Instant::now();
        assert!(!shutdown.finished(DEADLINE).await);
        assert_eq!(begun.elapsed(), DEADLINE);
        assert!(!stuck.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn first_refusal_starts_the_shutdown_and_counts() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.refusal(), None);
        shutdown.refuse("a wrong key".to_owned());
        shutdown.refuse("another".to_owned());
        assert!(shutdown.is_started() && !shutdown.has_failed());
        assert_eq!(shutdown.refusal().as_deref(), Some("a wrong key"));
    }

    #[tokio::test(start_paused = true)]
    async fn work_spawned_while_finishing_is_waited_for() {
        let shutdown = Shutdown::new();
        shutdown.spawn({
            let shutdown = shutdown.clone();
            async move {
                shutdown.started().await;
                sleep(Duration::from_secs(1)).await;
                shutdown.spawn(sleep(Duration::from_secs(2)));
            }
        });
        let begun = Instant::now();
        shutdown.start();
        assert!(shutdown.finished(DEADLINE).await);
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_without_work_finishes_at_once() {
        let shutdown = Shutdown::new();
        shutdown.start();
        shutdown.start();
        shutdown.started().await;
        assert!(shutdown.finished(Duration::ZERO).await);
    }
}
