//! Limits the refreshes in flight, since one outage of GHL may cost all of them. The window is small at
//! first, grows with successes, and is halved when an answer is lost. While GHL is slow, and shortly
//! after a lost answer, the scheduler starts nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::metrics::WINDOW;

/// The initial size, and the most that a broker loses in a quiet hour.
pub(crate) const START: usize = 4;
/// An answer that takes longer may never come: nothing that can wait is started.
const SLOW: Duration = Duration::from_millis(500);
/// Nor is anything that a caller waits for.
const STALLED: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long after a lost answer other brokers have told of theirs, and may have contained it.
const AFTER_LOSS: Duration = Duration::from_secs(1);

/// The refreshes in flight, and how many there may be.
#[derive(Debug)]
pub(crate) struct Window {
    longest: usize,
    state: Mutex<State>,
    room: Notify,
    /// A simulation takes the rule away.
    #[cfg(feature = "simulation")]
    is_ignored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    limit: usize,
    /// When each of those in flight began, by its number.
    in_flight: BTreeMap<u64, Instant>,
    next_number: u64,
    /// Successes in this round, which has as many as there are places.
    successes: usize,
    /// The most that were in flight in this round.
    peak: usize,
    lost_at: Option<Instant>,
}

/// A place among the refreshes in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "a slot that is dropped is free"]
pub(crate) struct Slot {
    window: Arc<Window>,
    number: u64,
}

impl Window {
    /// At most `longest` at once, from 1.
    pub(crate) fn new(longest: usize) -> Arc<Self> {
        Arc::new(Self::of(longest, START.min(longest)))
    }

    /// As many as there are, whatever becomes of them.
    #[cfg(feature = "simulation")]
    pub(crate) fn unbounded() -> Arc<Self> {
        let mut window = Self::of(usize::MAX, usize::MAX);
        window.is_ignored = true;
        Arc::new(window)
    }

    fn of(longest: usize, limit: usize) -> Self {
        Self {
            longest,
            state: Mutex::new(State {
                limit,
                in_flight: BTreeMap::new(),
                next_number: 0,
                successes: 0,
                peak: 0,
                lost_at: None,
            }),
            room: Notify::new(),
            #[cfg(feature = "simulation")]
            is_ignored: false,
        }
    }

    /// Waits for a place, and until GHL answers at all.
    pub(crate) async fn enter(self: &Arc<Self>) -> Slot {
        loop {
            // Before the look: a place that becomes free in between must not be missed.
            let room = self.room.notified();
            let is_stalled = self.oldest() > STALLED;
            if !is_stalled && let Some(slot) = self.try_enter() {
                // There may be room for the next one, too.
                self.room.notify_one();
                return slot;
            }
            tokio::select! {
                biased;
                () = room => {}
                () = sleep(LOOK_AGAIN), if is_stalled => {}
            }
        }
    }

    /// For how long the oldest refresh has been in flight.
    fn oldest(&self) -> Duration {
        #[cfg(feature = "simulation")]
        if self.is_ignored {
            return Duration::ZERO;
        }
        self.state().oldest(Instant::now())
    }

    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        let number = self.state().enter(Instant::now())?;
        let window = self.clone();
        Some(Slot { window, number })
    }

    /// Whether what can wait should: somebody waits unusually long for GHL's answer, or it was lost.
    pub(crate) fn is_strained(&self) -> bool {
        #[cfg(feature = "simulation")]
        if self.is_ignored {
            return false;
        }
        self.state().is_strained(Instant::now())
    }

    /// A refresh that is still in its place succeeded.
    pub(crate) fn succeeded(&self) {
        self.change(|state| state.succeeded(self.longest));
        self.room.notify_one();
    }

    /// It is not known whether GHL spent a token.
    pub(crate) fn lost(&self) {
        let now = Instant::now();
        self.change(|state| state.lost(now));
    }

    fn change(&self, change: impl Fn(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let limit = u32::try_from(state.limit).unwrap_or(u32::MAX);
        gauge!(WINDOW).set(f64::from(limit));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, now: Instant) -> Option<u64> {
        if self.in_flight.len() >= self.limit {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.insert(number, now);
        self.peak = self.peak.max(self.in_flight.len());
        Some(number)
    }

    fn oldest(&self, now: Instant) -> Duration {
        let first = self.in_flight.values().next();
        first.map_or(Duration::ZERO, |began| now.duration_since(*began))
    }

    fn is_strained(&self, now: Instant) -> bool {
        self.oldest(now) > SLOW
            || self
                .lost_at
                .is_some_and(|at| now.duration_since(at) < AFTER_LOSS)
    }

    /// A window that was full grows by one place with each round of successes. An outage costs
    /// as many installations as there are places, so the window must not grow faster than GHL proves well.
    /// Ten thousand that are overdue are refreshed within 140 rounds all the same.
    ///
    /// One that was not full says nothing of what GHL can take. It shrinks: what it held in a busy hour is
    /// no reason to risk as much in a quiet one.
    fn succeeded(&mut self, longest: usize) {
        self.successes += 1;
        if self.successes < self.limit {
            return;
        }
        self.limit = if self.peak >= self.limit {
            (self.limit + 1).min(longest)
        } else {
            (2 * self.peak).clamp(START.min(self.limit), self.limit)
        };
        self.successes = 0;
        self.peak = self.in_flight.len();
    }

    fn lost(&mut self, now: Instant) {
        self.limit = (self.limit / 2).max(1);
        self.successes = 0;
        self.lost_at = Some(now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.window.state().in_flight.remove(&self.number);
        self.window.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::time::advance;

    use super::*;

    fn limit(window: &Window) -> usize {
        window.state().limit
    }

    fn fill(window: &Arc<Window>) -> Vec<Slot> {
        std::iter::from_fn(|| window.try_enter()).collect()
    }

    #[test]
    fn it_starts_small_and_grows_by_one_with_each_round_of_successes() {
        let window = Window::new(8);
        let mut in_flight: VecDeque<Slot> = fill(&window).into();
        let mut seen = vec![in_flight.len()];
        for _ in 0..5 {
            for _ in 0..in_flight.len() {
                window.succeeded();
                drop(in_flight.pop_front());
                // More is due than the window holds.
                in_flight.extend(fill(&window));
            }
            seen.push(in_flight.len());
        }
        assert_eq!(seen, [4, 5, 6, 7, 8, 8]);
    }

    #[test]
    fn successes_in_a_window_that_is_not_used_prove_nothing() {
        let window = Window::new(64);
        for _ in 0..100 {
            let _slot = window.try_enter().unwrap();
            window.succeeded();
        }
        assert_eq!(limit(&window), START);
    }

    #[test]
    fn a_window_that_is_hardly_used_shrinks_to_where_it_began() {
        let window = Window::new(64);
        for _ in 0..100 {
            let _slots = fill(&window);
            window.succeeded();
        }
        let former = limit(&window);
        assert!(former > 2 * START);
        for _ in 0..2 * former {
            let _slot = window.try_enter().unwrap();
            window.succeeded();
        }
        assert_eq!(limit(&window), START);
    }

    #[test]
    fn a_lost_answer_halves_it_down_to_one() {
        let window = Window::new(2);
        assert_eq!(limit(&window), 2);
        for _ in 0..3 {
            window.lost();
        }
        assert_eq!(limit(&window), 1);
        assert_eq!(fill(&window).len(), 1, "there is always a way on");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_strained_while_an_answer_takes_long_and_just_after_one_was_lost() {
        let window = Window::new(8);
        let slot = window.try_enter().unwrap();
        advance(SLOW).await;
        assert!(!window.is_strained());
        advance(Duration::from_millis(1)).await;
        assert!(window.is_strained());
        drop(slot);
        assert!(!window.is_strained());
        window.lost();
        assert!(window.is_strained());
        advance(AFTER_LOSS).await;
        assert!(!window.is_strained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_until_an_answer_that_takes_long_is_there() {
        let window = Window::new(8);
        let slow = window.enter().await;
        advance(STALLED + Duration::from_millis(1)).await;
        let waits = tokio::spawn({
            let window = window.clone();
            async move { window.enter().await }
        });
        sleep(LOOK_AGAIN * 5).await;
        assert!(!waits.is_finished());
        drop(slow);
        drop(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_becomes_free_is_given_to_the_one_who_waits() {
        let window = Window::new(1);
        let first = window.enter().await;
        let waits = tokio::spawn({
            let window = window.clone();
            async move { window.enter().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(first);
        drop(waits.await.unwrap());
        assert!(window.try_enter().is_some());
    }
}
