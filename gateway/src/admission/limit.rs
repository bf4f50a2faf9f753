//! One location's limit, and the queue before it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service::locks::lock;
use store::KeyHash;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::limited::Limited;
use super::queue::{CAPACITY, Priority, Queue};
use super::rate_limit_headers::RateLimitHeaders;
use super::rate_window::{CountedCall, Decision, RateWindow};
use crate::metrics::Queued;

/// On whose behalf a call waits, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmissionRequest {
    pub(crate) caller: Option<KeyHash>,
    pub(crate) deadline: Instant,
    /// How much of its body is in memory meanwhile, in bytes.
    pub(crate) held: usize,
}

/// What is known of one location's or company's limits, and who waits for it to have room.
pub(crate) struct RateLimit {
    metrics: Arc<Queued>,
    state: Mutex<State>,
    /// An answer came that may let somebody go.
    changed: Notify,
}

struct State {
    window: RateWindow,
    queue: Queue<oneshot::Sender<Turn>>,
    /// A task serves the queue.
    is_served: bool,
}

type Turn = Result<Permit, Limited>;

/// Lets one call go to GHL. Dropped, it lets another go instead.
#[must_use]
pub(crate) struct Permit {
    limit: Arc<RateLimit>,
    /// `None` once its call has gone.
    sent: Option<CountedCall>,
}

/// A call that has gone. GHL may have counted it, so unless its outcome says otherwise it stays counted
/// here, too, until the end of its window.
#[must_use]
pub(crate) struct InFlight {
    limit: Arc<RateLimit>,
    sent: Option<CountedCall>,
}

impl RateLimit {
    pub(super) fn new(metrics: Arc<Queued>) -> Self {
        let state = State {
            window: RateWindow::new(),
            queue: Queue::new(),
            is_served: false,
        };
        Self {
            metrics,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// A permit, if there is one now and nobody waits.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = lock(&self.state);
        if !state.queue.is_empty() {
            return None;
        }
        match state.window.admit(Instant::now()) {
            Decision::Go(sent) => Some(self.permit_for(sent)),
            Decision::WaitUntil(_) | Decision::DailyLimit(_) => None,
        }
    }

    /// A permit when the call's turn comes. Dropping this future leaves the queue.
    pub(crate) async fn wait_for_permit(
        self: &Arc<Self>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> Turn {
        let (entry, turn) = self.join(request, priority)?;
        let started = Instant::now();
        let turn = timeout_at(request.deadline, turn).await;
        self.metrics.waited.record(started.elapsed().as_secs_f64());
        drop(entry);
        match turn {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => Err(self.too_late(&request)),
        }
    }

    fn join(
        self: &Arc<Self>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> Result<(QueueEntry, oneshot::Receiver<Turn>), Limited> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let soonest = match priority {
            Priority::New => state.soonest(&request, now),
            Priority::Again => state.window.soonest(0, now),
        };
        let retry_after = soonest - now;
        if priority == Priority::New && state.queue.len() >= CAPACITY {
            return Err(Limited::Full { retry_after });
        }
        if soonest > request.deadline {
            return Err(state.late(retry_after));
        }
        let (hand_over, turn) = oneshot::channel();
        let id = state.queue.push(request.caller, priority, hand_over);
        self.metrics.now.increment(1.0);
        if !state.is_served {
            state.is_served = true;
            tokio::spawn(Arc::clone(self).serve());
        }
        let entry = QueueEntry {
            limit: Arc::clone(self),
            caller: request.caller,
            id,
        };
        Ok((entry, turn))
    }

    fn too_late(&self, request: &AdmissionRequest) -> Limited {
        let state = lock(&self.state);
        let now = Instant::now();
        state.late(state.soonest(request, now) - now)
    }

    /// Gives everybody in the queue a turn, and ends with the queue.
    async fn serve(self: Arc<Self>) {
        while let Some(next) = self.give_turns() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Gives as many turns as there are now; returns when to try again, if somebody still waits.
    fn give_turns(self: &Arc<Self>) -> Option<Instant> {
        let mut state = lock(&self.state);
        let mut turns = Vec::new();
        let next = loop {
            if state.queue.is_empty() {
                state.is_served = false;
                break None;
            }
            let now = Instant::now();
            let turn = match state.window.admit(now) {
                Decision::Go(sent) => Ok(self.permit_for(sent)),
                Decision::DailyLimit(look_at) => Err(Limited::Day {
                    retry_after: look_at - now,
                }),
                Decision::WaitUntil(next) => break Some(next),
            };
            turns.push((state.queue.pop(), turn));
        };
        // A permit that nobody takes any longer gives itself back, which takes the lock.
        drop(state);
        for (waiting, turn) in turns {
            let _ = waiting.map(|waiting| waiting.send(turn));
        }
        next
    }

    fn learn(&self, learning: impl FnOnce(&mut RateWindow)) {
        let mut state = lock(&self.state);
        learning(&mut state.window);
        if state.is_served {
            self.changed.notify_one();
        }
    }

    fn permit_for(self: &Arc<Self>, sent: CountedCall) -> Permit {
        Permit {
            limit: Arc::clone(self),
            sent: Some(sent),
        }
    }
}

impl State {
    fn soonest(&self, request: &AdmissionRequest, now: Instant) -> Instant {
        let ahead = self.queue.ahead_of(&request.caller);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.window.soonest(ahead, now)
    }

    fn late(&self, retry_after: Duration) -> Limited {
        let (max, interval) = self.window.rate();
        Limited::Interval {
            max,
            interval,
            retry_after,
        }
    }
}

impl Permit {
    /// The call goes.
    pub(crate) fn go(mut self) -> InFlight {
        InFlight {
            limit: Arc::clone(&self.limit),
            sent: self.sent.take(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.limit.learn(|window| window.forget(sent));
        }
    }
}

/// The outcome of a call that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Answered(RateLimitHeaders),
    /// It never reached GHL.
    NotSent,
    /// GHL may have counted it.
    Unknown,
}

impl InFlight {
    /// The call was answered, or will not be.
    pub(crate) fn over(self, outcome: Outcome) {
        let Some(sent) = self.sent else { return };
        match outcome {
            Outcome::Answered(headers) => {
                self.limit
                    .learn(|window| window.learn(sent, &headers, Instant::now()));
                if headers.is_refusal {
                    self.limit.metrics.refused.increment(1);
                }
            }
            Outcome::NotSent => self.limit.learn(|window| window.forget(sent)),
            Outcome::Unknown => {}
        }
    }
}

/// A entry in the queue, which is left with it.
struct QueueEntry {
    limit: Arc<RateLimit>,
    caller: Option<KeyHash>,
    id: u64,
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.limit.metrics.now.decrement(1.0);
        lock(&self.limit.state).queue.remove(&self.caller, self.id);
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("RateLimit")
            .field("window", &state.window)
            .field("waiting", &state.queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
