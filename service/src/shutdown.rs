//! Graceful shutdown. After `start` no new work is accepted or begun. Work in flight is finished within a deadline,
//! and only then does the process end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

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

    /// Starts on SIGTERM or SIGINT. From now on neither signal ends the process by itself, so the caller must bound the
    /// shutdown by a deadline.
    pub fn on_signals(&self) {
        let shutdown = self.clone();
        // Installed here and not in the task, so that no signal is missed before the task runs.
        match listen_for_signals() {
            Ok(signalled) => drop(tokio::spawn(async move {
                let name = signalled.await;
                info!(signal = name, "shutting down");
                shutdown.start();
            })),
            Err(reason) => {
                error!(%reason, "cannot listen for signals: SIGTERM will not be graceful")
            }
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

fn listen_for_signals() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

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
        let stuck = shutdown.spawn(std::future::pending::<()>());
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
