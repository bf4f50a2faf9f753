//! GHL's rate limits, kept instead of run into: calls over a location's limit wait for their turn.
//!
//! What is left of a limit is learned from GHL's answers (`told`, `budget`), which is all that
//! replicas share. While a location has plenty, a call costs a short lock before and after it.
//! When it has not, calls wait in a queue of their location (`queue`) that a task serves for as
//! long as there is one; no location knows of another's. `turn` puts this around a call.

mod budget;
mod queue;
mod told;
mod turn;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::response::Response;
use store::KeyHash;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::metrics::Queued;
use budget::{Admission, Budget, Sent};
use queue::{CAPACITY, Queue, Rank};
use told::Told;

/// How often the limits that nobody holds any longer are looked for, in new ones.
const SWEEP_EVERY: usize = 1024;

/// The limits of all locations and companies whose tokens are held.
pub(crate) struct Limits {
    metrics: Arc<Queued>,
    by_name: Mutex<HashMap<Box<str>, Weak<Limit>>>,
}

/// What is known of one location's or company's limits, and who waits for it to have room.
pub(crate) struct Limit {
    metrics: Arc<Queued>,
    state: Mutex<State>,
    /// An answer came that may let somebody go.
    changed: Notify,
}

struct State {
    budget: Budget,
    queue: Queue<oneshot::Sender<Turn>>,
    /// A task serves the queue.
    is_served: bool,
}

type Turn = Result<Permit, Limited>;

/// On whose behalf a call waits, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) caller: Option<KeyHash>,
    pub(crate) deadline: Instant,
}

/// Lets one call go to GHL. Ends with what its answer tells, or with none.
#[must_use]
pub(crate) struct Permit {
    limit: Arc<Limit>,
    /// `None` once an answer was heard.
    sent: Option<Sent>,
}

/// Why a call is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Limited {
    #[error(
        "GHL takes {max} calls per {} of this location, and this one's turn does not come in time",
        humantime::format_duration(*interval)
    )]
    Interval {
        max: u32,
        interval: Duration,
        retry_after: Duration,
    },
    #[error("{CAPACITY} calls wait for this location's turn at GHL already")]
    Full { retry_after: Duration },
    #[error("GHL's daily limit of calls for this location is used up")]
    Day { retry_after: Duration },
}

impl Limits {
    pub(crate) fn new(metrics: Queued) -> Self {
        Self {
            metrics: Arc::new(metrics),
            by_name: Mutex::default(),
        }
    }

    /// The limit of this location or company: the same one for as long as anybody holds it.
    pub(crate) fn of(&self, name: &str) -> Arc<Limit> {
        let mut by_name = locked(&self.by_name);
        if let Some(held) = by_name.get(name).and_then(Weak::upgrade) {
            return held;
        }
        if by_name.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            by_name.retain(|_, limit| limit.strong_count() > 0);
        }
        let limit = Arc::new(Limit::new(Arc::clone(&self.metrics)));
        by_name.insert(name.into(), Arc::downgrade(&limit));
        limit
    }
}

impl Limit {
    pub(crate) fn new(metrics: Arc<Queued>) -> Self {
        let state = State {
            budget: Budget::new(),
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
    fn permit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = locked(&self.state);
        if !state.queue.is_empty() {
            return None;
        }
        match state.budget.admit(Instant::now()) {
            Admission::Go(sent) => Some(self.permit_for(sent)),
            Admission::WaitUntil(_) | Admission::DailyLimit(_) => None,
        }
    }

    /// A permit when the call's turn comes. Dropping this future leaves the queue.
    async fn turn(self: &Arc<Self>, claim: Claim, rank: Rank) -> Turn {
        let (place, turn) = self.join(claim, rank)?;
        let started = Instant::now();
        let turn = timeout_at(claim.deadline, turn).await;
        self.metrics.waited.record(started.elapsed().as_secs_f64());
        drop(place);
        match turn {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => Err(self.too_late(&claim)),
        }
    }

    fn join(
        self: &Arc<Self>,
        claim: Claim,
        rank: Rank,
    ) -> Result<(Place, oneshot::Receiver<Turn>), Limited> {
        let mut state = locked(&self.state);
        let now = Instant::now();
        let soonest = match rank {
            Rank::New => state.soonest(&claim, now),
            Rank::Again => state.budget.soonest(0, now),
        };
        let retry_after = soonest - now;
        if rank == Rank::New && state.queue.len() >= CAPACITY {
            return Err(Limited::Full { retry_after });
        }
        if soonest > claim.deadline {
            return Err(state.late(retry_after));
        }
        let (hand_over, turn) = oneshot::channel();
        let id = state.queue.push(claim.caller, rank, hand_over);
        self.metrics.now.increment(1.0);
        if !state.is_served {
            state.is_served = true;
            tokio::spawn(Arc::clone(self).serve());
        }
        let place = Place {
            limit: Arc::clone(self),
            caller: claim.caller,
            id,
        };
        Ok((place, turn))
    }

    fn too_late(&self, claim: &Claim) -> Limited {
        let state = locked(&self.state);
        let now = Instant::now();
        state.late(state.soonest(claim, now) - now)
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
        let mut state = locked(&self.state);
        let mut turns = Vec::new();
        let next = loop {
            if state.queue.is_empty() {
                state.is_served = false;
                break None;
            }
            let now = Instant::now();
            let turn = match state.budget.admit(now) {
                Admission::Go(sent) => Ok(self.permit_for(sent)),
                Admission::DailyLimit(look_at) => Err(Limited::Day {
                    retry_after: look_at - now,
                }),
                Admission::WaitUntil(next) => break Some(next),
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

    fn permit_for(self: &Arc<Self>, sent: Sent) -> Permit {
        Permit {
            limit: Arc::clone(self),
            sent: Some(sent),
        }
    }
}

impl Limited {
    /// Which of GHL's limits it is about.
    pub(crate) fn limit(&self) -> &'static str {
        match self {
            Self::Interval { .. } | Self::Full { .. } => "interval",
            Self::Day { .. } => "day",
        }
    }

    /// How long a call would have to wait, at least.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::Interval { retry_after, .. }
            | Self::Full { retry_after }
            | Self::Day { retry_after } => *retry_after,
        }
    }
}

impl State {
    fn soonest(&self, claim: &Claim, now: Instant) -> Instant {
        let ahead = self.queue.ahead_of(&claim.caller);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.budget.soonest(ahead, now)
    }

    fn late(&self, retry_after: Duration) -> Limited {
        let (max, interval) = self.budget.rate();
        Limited::Interval {
            max,
            interval,
            retry_after,
        }
    }
}

impl Permit {
    /// The call was answered.
    pub(crate) fn answered(mut self, answer: &Response) {
        let told = Told::by(answer.status(), answer.headers());
        if let Some(sent) = self.sent.take() {
            self.end(|budget| budget.learn(sent, &told, Instant::now()));
        }
        if told.is_refusal {
            self.limit.metrics.refused.increment(1);
        }
    }

    fn end(&self, ending: impl FnOnce(&mut Budget)) {
        let mut state = locked(&self.limit.state);
        ending(&mut state.budget);
        if state.is_served {
            self.limit.changed.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.end(|budget| budget.forget(sent));
        }
    }
}

/// A place in the queue, which is left with it.
struct Place {
    limit: Arc<Limit>,
    caller: Option<KeyHash>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limit.metrics.now.decrement(1.0);
        locked(&self.limit.state)
            .queue
            .remove(&self.caller, self.id);
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = locked(&self.state);
        f.debug_struct("Limit")
            .field("budget", &state.budget)
            .field("waiting", &state.queue.len())
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
