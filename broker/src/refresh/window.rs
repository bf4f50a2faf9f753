//! A congestion window for refreshes in flight: one outage at GHL may cost every refresh in flight.
//!
//! The window starts small, grows with successes, and halves when a response is lost (additive increase,
//! multiplicative decrease). While GHL is slow, and shortly after a lost response, the scheduler starts
//! nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::gauge;
use service::locks::lock;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::metrics::WINDOW;

/// The initial size. It is also the most that a broker loses to an outage in a quiet hour.
pub(crate) const INITIAL_LIMIT: usize = 4;
/// A response that takes longer may never come. The scheduler then starts nothing.
const SLOW_RESPONSE: Duration = Duration::from_millis(500);
/// A response that takes longer also holds back refreshes that a caller waits for.
const STALLED_RESPONSE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// After a lost response, the other brokers need this long to report theirs and start containment.
const PAUSE_AFTER_LOSS: Duration = Duration::from_secs(1);

/// The refreshes in flight and their limit.
#[derive(Debug)]
pub(crate) struct Window {
    max: AtomicUsize,
    state: Mutex<State>,
    slot_freed: Notify,
    /// Whether a simulation has switched the rule off.
    #[cfg(feature = "simulation")]
    is_ignored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    limit: usize,
    /// The start of each refresh in flight, by its number.
    in_flight: BTreeMap<u64, Instant>,
    next_number: u64,
    /// Successes in this round. A round ends after `limit` successes.
    successes: usize,
    /// The largest number of refreshes in flight in this round.
    peak: usize,
    lost_at: Option<Instant>,
}

/// One refresh in flight. Dropping it frees its place in the window.
#[derive(Debug)]
#[must_use = "a slot that is dropped is free"]
pub(crate) struct Slot {
    window: Arc<Window>,
    number: u64,
}

impl Window {
    /// A window of at most `max` refreshes; `max` is at least 1.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let window = Self::of(max, INITIAL_LIMIT.min(max));
        window.update(|_| ());
        Arc::new(window)
    }

    /// A window without a limit.
    #[cfg(feature = "simulation")]
    pub(crate) fn unbounded() -> Arc<Self> {
        let mut window = Self::of(usize::MAX, usize::MAX);
        window.is_ignored = true;
        Arc::new(window)
    }

    fn of(max: usize, limit: usize) -> Self {
        Self {
            max: AtomicUsize::new(max),
            state: Mutex::new(State {
                limit,
                in_flight: BTreeMap::new(),
                next_number: 0,
                successes: 0,
                peak: 0,
                lost_at: None,
            }),
            slot_freed: Notify::new(),
            #[cfg(feature = "simulation")]
            is_ignored: false,
        }
    }

    /// Waits for a slot. Also waits while the oldest refresh in flight is stalled.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Slot {
        loop {
            // Subscribe before the check, or a slot that is freed in between would be missed.
            let slot_freed = self.slot_freed.notified();
            let is_stalled = self.oldest() > STALLED_RESPONSE;
            if !is_stalled && let Some(slot) = self.try_acquire() {
                // There may be a slot for the next waiter, too.
                self.slot_freed.notify_one();
                return slot;
            }
            tokio::select! {
                biased;
                () = slot_freed => {}
                () = sleep(POLL_INTERVAL), if is_stalled => {}
            }
        }
    }

    /// How long the oldest refresh has been in flight.
    fn oldest(&self) -> Duration {
        #[cfg(feature = "simulation")]
        if self.is_ignored {
            return Duration::ZERO;
        }
        self.state().oldest(Instant::now())
    }

    /// Takes a slot if one is free.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let number = self.state().acquire(Instant::now())?;
        let window = self.clone();
        Some(Slot { window, number })
    }

    /// Whether the scheduler must hold back: a response is slow, or one was lost a moment ago.
    pub(crate) fn is_congested(&self) -> bool {
        #[cfg(feature = "simulation")]
        if self.is_ignored {
            return false;
        }
        self.state().is_congested(Instant::now())
    }

    /// Changes the most refreshes in flight, at least 1. More than that begin no new one.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.update(|state| state.limit = state.limit.min(max));
    }

    /// Records a success. The refresh still holds its slot.
    pub(crate) fn record_success(&self) {
        let max = self.max.load(Ordering::Relaxed);
        self.update(|state| state.record_success(max));
        self.slot_freed.notify_one();
    }

    /// Records a refresh after which it is unknown whether GHL spent the token.
    pub(crate) fn record_loss(&self) {
        let now = Instant::now();
        self.update(|state| state.record_loss(now));
    }

    fn update(&self, change: impl Fn(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let limit = u32::try_from(state.limit).unwrap_or(u32::MAX);
        gauge!(WINDOW).set(f64::from(limit));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn acquire(&mut self, now: Instant) -> Option<u64> {
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

    fn is_congested(&self, now: Instant) -> bool {
        self.oldest(now) > SLOW_RESPONSE
            || self
                .lost_at
                .is_some_and(|at| now.duration_since(at) < PAUSE_AFTER_LOSS)
    }

    /// Grows a full window by one slot per round of successes. An outage can cost as many installations as
    /// the window has slots, so it must not grow faster than GHL proves to be healthy. 10,000 overdue
    /// installations still take only 140 rounds.
    ///
    /// Shrinks a window that was not full, because it proves nothing about GHL. The size of a busy hour
    /// must not be at risk in a quiet one.
    fn record_success(&mut self, max: usize) {
        self.successes += 1;
        if self.successes < self.limit {
            return;
        }
        self.limit = if self.peak >= self.limit {
            (self.limit + 1).min(max)
        } else {
            (2 * self.peak).clamp(INITIAL_LIMIT.min(self.limit), self.limit)
        };
        self.successes = 0;
        self.peak = self.in_flight.len();
    }

    fn record_loss(&mut self, now: Instant) {
        self.limit = (self.limit / 2).max(1);
        self.successes = 0;
        self.lost_at = Some(now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.window.state().in_flight.remove(&self.number);
        self.window.slot_freed.notify_one();
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
        std::iter::from_fn(|| window.try_acquire()).collect()
    }

    #[test]
    fn full_window_grows_by_one_per_round_of_successes() {
        let window = Window::new(8);
        let mut in_flight: VecDeque<Slot> = fill(&window).into();
        let mut seen = vec![in_flight.len()];
        for _ in 0..5 {
            for _ in 0..in_flight.len() {
                window.record_success();
                drop(in_flight.pop_front());
                // More is due than the window holds.
                in_flight.extend(fill(&window));
            }
            seen.push(in_flight.len());
        }
        assert_eq!(seen, [4, 5, 6, 7, 8, 8]);
    }

    #[test]
    fn window_shrinks_to_a_smaller_maximum_at_once() {
        let window = Window::new(8);
        let held = fill(&window);
        window.set_max(2);
        assert_eq!((held.len(), limit(&window)), (INITIAL_LIMIT, 2));
        assert!(window.try_acquire().is_none());
        drop(held);
        assert_eq!(fill(&window).len(), 2);
    }

    #[test]
    fn window_that_is_not_full_does_not_grow() {
        let window = Window::new(64);
        for _ in 0..100 {
            let _slot = window.try_acquire().unwrap();
            window.record_success();
        }
        assert_eq!(limit(&window), INITIAL_LIMIT);
    }

    #[test]
    fn unused_window_shrinks_to_its_initial_size() {
        let window = Window::new(64);
        for _ in 0..100 {
            let _slots = fill(&window);
            window.record_success();
        }
        let former = limit(&window);
        assert!(former > 2 * INITIAL_LIMIT);
        for _ in 0..2 * former {
            let _slot = window.try_acquire().unwrap();
            window.record_success();
        }
        assert_eq!(limit(&window), INITIAL_LIMIT);
    }

    #[test]
    fn lost_response_halves_the_window_down_to_one() {
        let window = Window::new(2);
        assert_eq!(limit(&window), 2);
        for _ in 0..3 {
            window.record_loss();
        }
        assert_eq!(limit(&window), 1);
        assert_eq!(fill(&window).len(), 1, "one refresh is always possible");
    }

    #[tokio::test(start_paused = true)]
    async fn window_is_congested_while_a_response_is_slow_and_after_a_loss() {
        let window = Window::new(8);
        let slot = window.try_acquire().unwrap();
        advance(SLOW_RESPONSE).await;
        assert!(!window.is_congested());
        advance(Duration::from_millis(1)).await;
        assert!(window.is_congested());
        drop(slot);
        assert!(!window.is_congested());
        window.record_loss();
        assert!(window.is_congested());
        advance(PAUSE_AFTER_LOSS).await;
        assert!(!window.is_congested());
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_waits_while_the_oldest_refresh_is_stalled() {
        let window = Window::new(8);
        let slow = window.acquire().await;
        advance(STALLED_RESPONSE + Duration::from_millis(1)).await;
        let waits = tokio::spawn({
            let window = window.clone();
            async move { window.acquire().await }
        });
        sleep(POLL_INTERVAL * 5).await;
        assert!(!waits.is_finished());
        drop(slow);
        drop(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn freed_slot_wakes_a_waiting_caller() {
        let window = Window::new(1);
        let first = window.acquire().await;
        let waits = tokio::spawn({
            let window = window.clone();
            async move { window.acquire().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(first);
        drop(waits.await.unwrap());
        assert!(window.try_acquire().is_some());
    }
}
