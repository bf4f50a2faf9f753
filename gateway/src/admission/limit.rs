//! The rate limit of one location, and its queue.

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

/// The caller that a call is queued for, and the deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmissionRequest {
    pub(crate) caller: Option<KeyHash>,
    pub(crate) deadline: Instant,
    /// How many bytes of its body are in memory while it waits.
    pub(crate) held: usize,
}

/// The known state of one location's or company's rate limit, and the calls that wait for it.
pub(crate) struct RateLimit {
    metrics: Arc<Queued>,
    state: Mutex<State>,
    /// A response arrived that may admit a waiting call.
    changed: Notify,
}

struct State {
    window: RateWindow,
    queue: Queue<oneshot::Sender<AdmissionResult>>,
    /// Whether a task serves the queue.
    is_served: bool,
}

type AdmissionResult = Result<Permit, Limited>;

/// Admits one call to GHL. If it is dropped unused, another call may go instead.
#[must_use]
pub(crate) struct Permit {
    limit: Arc<RateLimit>,
    /// `None` once its call was sent.
    sent: Option<CountedCall>,
}

/// A call that was sent. GHL may have counted it, so it stays counted here until the end of its window, unless its
/// outcome says otherwise.
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

    /// A permit, if the limit admits a call now and no call waits.
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

    /// Queues for a permit. Dropping this future leaves the queue.
    pub(crate) async fn wait_for_permit(
        self: &Arc<Self>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> AdmissionResult {
        let (entry, receiver) = self.join(request, priority)?;
        let started = Instant::now();
        let received = timeout_at(request.deadline, receiver).await;
        self.metrics.waited.record(started.elapsed().as_secs_f64());
        drop(entry);
        match received {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(self.deadline_passed(&request)),
        }
    }

    fn join(
        self: &Arc<Self>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> Result<(QueueEntry, oneshot::Receiver<AdmissionResult>), Limited> {
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
            return Err(state.limited(retry_after));
        }
        let (sender, receiver) = oneshot::channel();
        let id = state.queue.push(request.caller, priority, sender);
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
        Ok((entry, receiver))
    }

    fn deadline_passed(&self, request: &AdmissionRequest) -> Limited {
        let state = lock(&self.state);
        let now = Instant::now();
        state.limited(state.soonest(request, now) - now)
    }

    /// Admits queued calls until the queue is empty.
    async fn serve(self: Arc<Self>) {
        while let Some(next) = self.admit_queued() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Admits as many queued calls as possible now. Returns when to try again, if calls still wait.
    fn admit_queued(self: &Arc<Self>) -> Option<Instant> {
        let mut state = lock(&self.state);
        let mut results = Vec::new();
        let next = loop {
            if state.queue.is_empty() {
                state.is_served = false;
                break None;
            }
            let now = Instant::now();
            let result = match state.window.admit(now) {
                Decision::Go(sent) => Ok(self.permit_for(sent)),
                Decision::DailyLimit(probe_at) => Err(Limited::Day {
                    retry_after: probe_at - now,
                }),
                Decision::WaitUntil(next) => break Some(next),
            };
            results.push((state.queue.pop(), result));
        };
        // A permit whose receiver is gone is dropped, and its drop takes the lock.
        drop(state);
        for (sender, result) in results {
            let _ = sender.map(|sender| sender.send(result));
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

    fn limited(&self, retry_after: Duration) -> Limited {
        let (max, interval) = self.window.rate();
        Limited::Interval {
            max,
            interval,
            retry_after,
        }
    }
}

impl Permit {
    /// The call is sent.
    pub(crate) fn use_for_call(mut self) -> InFlight {
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
    /// The call did not reach GHL.
    NotSent,
    /// GHL may have counted it.
    Unknown,
}

impl InFlight {
    /// The call got its response, or failed.
    pub(crate) fn finish(self, outcome: Outcome) {
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

/// An entry in the queue. Dropping it leaves the queue.
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
