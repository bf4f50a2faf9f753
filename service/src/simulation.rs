//! A process within a simulation. Its tasks can be stopped together, and killed together.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::locks::lock;

use tokio::task::AbortHandle;

/// Clones share it. Its tasks are those that its [`Shutdown`](crate::shutdown::Shutdown) spawns.
#[derive(Clone, Debug, Default)]
pub struct Process(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    /// Tasks that were woken while it was stopped.
    held: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// When there are this many tasks, those that have ended are removed.
    sweep_at: usize,
}

impl Process {
    /// As SIGSTOP: no task runs until [`cont`](Self::cont).
    pub fn stop(&self) {
        self.state().is_stopped = true;
    }

    /// As SIGCONT.
    pub fn cont(&self) {
        let held = {
            let mut state = self.state();
            state.is_stopped = false;
            std::mem::take(&mut state.held)
        };
        for task in held {
            task.wake();
        }
    }

    /// As SIGKILL: no task runs again, and what they hold is dropped.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.state();
            // Neither killed nor held tasks are polled again.
            state.is_stopped = true;
            state.held.clear();
            std::mem::take(&mut state.tasks)
        };
        for task in tasks {
            task.abort();
        }
    }

    /// Runs `work` as a part of this process.
    pub(crate) fn run<F: Future>(self, work: F) -> Run<F> {
        Run {
            process: self,
            work: Box::pin(work),
        }
    }

    pub(crate) fn owns(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.tasks.len() >= state.sweep_at {
            state.tasks.retain(|task| !task.is_finished());
            state.sweep_at = 2 * state.tasks.len() + 64;
        }
        state.tasks.push(task);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

pub(crate) struct Run<F> {
    process: Process,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Run<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.process.state();
            if state.is_stopped {
                state.held.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.work.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;
    use crate::shutdown::Shutdown;

    #[tokio::test(start_paused = true)]
    async fn process_can_be_stopped_continued_and_killed() {
        let process = Process::default();
        let (tick, mut ticks) = mpsc::unbounded_channel();
        Shutdown::of(process.clone()).spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                let _ = tick.send(());
            }
        });
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(ticks.len(), 2);
        process.stop();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(ticks.len(), 2);
        process.cont();
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(ticks.len(), 5, "the tick that was due, and two more");
        process.kill();
        sleep(Duration::from_secs(10)).await;
        for _ in 0..5 {
            assert_eq!(ticks.recv().await, Some(()));
        }
        assert_eq!(ticks.recv().await, None, "what it held was dropped");
    }
}
