//! One location's limit, and the queue before it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use store::KeyHash;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::budget::{Admission, Budget, Sent};
use super::queue::{CAPACITY, Queue, Rank};
use super::told::Told;
use super::{Claim, Limited};
use crate::error::Error;
use crate::locked;
use crate::metrics::Queued;
use crate::upstream::Kind;

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

/// Lets one call go to GHL. Dropped, it lets another go instead.
#[must_use]
pub(crate) struct Permit {
    limit: Arc<Limit>,
    /// `None` once its call has gone.
    sent: Option<Sent>,
}

/// A call that has gone. GHL may have counted it, so unless its outcome says otherwise it stays counted
/// here, too, until the end of its window.
#[must_use]
pub(crate) struct UnderWay {
    limit: Arc<Limit>,
    sent: Option<Sent>,
}

impl Limit {
    pub(super) fn new(metrics: Arc<Queued>) -> Self {
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
    pub(super) fn permit(self: &Arc<Self>) -> Option<Permit> {
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
    pub(super) async fn turn(self: &Arc<Self>, claim: Claim, rank: Rank) -> Turn {
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

    fn learn(&self, learning: impl FnOnce(&mut Budget)) {
        let mut state = locked(&self.state);
        learning(&mut state.budget);
        if state.is_served {
            self.changed.notify_one();
        }
    }

    fn permit_for(self: &Arc<Self>, sent: Sent) -> Permit {
        Permit {
            limit: Arc::clone(self),
            sent: Some(sent),
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
    /// The call goes.
    pub(crate) fn go(mut self) -> UnderWay {
        UnderWay {
            limit: Arc::clone(&self.limit),
            sent: self.sent.take(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.limit.learn(|budget| budget.forget(sent));
        }
    }
}

impl UnderWay {
    /// The call was answered, or will not be.
    pub(crate) fn over(self, outcome: &Result<Response, Error>) {
        let Some(sent) = self.sent else { return };
        match outcome {
            Ok(answer) => {
                let told = Told::by(answer.status(), answer.headers());
                self.limit
                    .learn(|budget| budget.learn(sent, &told, Instant::now()));
                if told.is_refusal {
                    self.limit.metrics.refused.increment(1);
                }
            }
            Err(Error::Upstream(failure)) => match failure.kind {
                Kind::Unreachable | Kind::ConnectTimeout => {
                    self.limit.learn(|budget| budget.forget(sent));
                }
                Kind::Silent | Kind::Broken | Kind::Malformed => {}
            },
            // Its body broke off.
            Err(_) => {}
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

#[cfg(test)]
mod tests;
