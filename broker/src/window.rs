//! How many refreshes are in flight at once. What GHL does to one of them it may do to all, so the
//! window is small until GHL has proved well, and shrinks as soon as answers are lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use tokio::sync::Notify;

use crate::metrics::WINDOW;

/// What may be lost before anybody knows that GHL is not well.
pub(crate) const START: usize = 4;

/// The refreshes in flight, and how many there may be.
#[derive(Debug)]
pub(crate) struct Window {
    longest: usize,
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    limit: usize,
    in_flight: usize,
    /// It was full, and has not been half empty since.
    is_used: bool,
}

/// A place among the refreshes in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "a slot that is dropped is free"]
pub(crate) struct Slot(Arc<Window>);

impl Window {
    /// At most `longest` at once, from 1.
    pub(crate) fn new(longest: usize) -> Arc<Self> {
        let limit = START.min(longest);
        Arc::new(Self {
            longest,
            state: Mutex::new(State {
                limit,
                in_flight: 0,
                is_used: false,
            }),
            room: Notify::new(),
        })
    }

    /// As many as there are, whatever becomes of them.
    #[cfg(feature = "simulation")]
    pub(crate) fn unbounded() -> Arc<Self> {
        let window = Self::new(usize::MAX);
        window.state().limit = usize::MAX;
        window
    }

    /// Waits for a place.
    pub(crate) async fn enter(self: &Arc<Self>) -> Slot {
        loop {
            // Before the look: a place that becomes free in between must not be missed.
            let room = self.room.notified();
            if let Some(slot) = self.try_enter() {
                // There may be room for the next one, too.
                self.room.notify_one();
                return slot;
            }
            room.await;
        }
    }

    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state();
        if state.in_flight >= state.limit {
            return None;
        }
        state.in_flight += 1;
        state.is_used |= state.in_flight == state.limit;
        Some(Slot(self.clone()))
    }

    /// A refresh that is still in its place succeeded.
    pub(crate) fn succeeded(&self) {
        let longest = self.longest;
        self.change(|state| state.succeeded(longest));
        self.room.notify_one();
    }

    /// It is not known whether GHL spent a token.
    pub(crate) fn lost(&self) {
        self.change(State::lost);
    }

    fn change(&self, decide: impl Fn(State) -> State) {
        let mut state = self.state();
        *state = decide(*state);
        let limit = u32::try_from(state.limit).unwrap_or(u32::MAX);
        gauge!(WINDOW).set(f64::from(limit));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A window that is not used does not grow: it says nothing of what GHL can take. It shrinks to where
    /// it began: what it held in a busy hour is no reason to risk as much in a quiet one.
    fn succeeded(self, longest: usize) -> Self {
        let limit = if self.is_used {
            (self.limit + 1).min(longest)
        } else {
            (self.limit - 1).max(START.min(self.limit))
        };
        Self { limit, ..self }
    }

    fn lost(self) -> Self {
        Self {
            limit: (self.limit / 2).max(1),
            ..self
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        state.is_used &= state.in_flight >= state.limit / 2;
        drop(state);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn limit(window: &Window) -> usize {
        window.state().limit
    }

    fn fill(window: &Arc<Window>) -> Vec<Slot> {
        std::iter::from_fn(|| window.try_enter()).collect()
    }

    #[test]
    fn it_starts_small_and_doubles_with_each_round_of_successes() {
        let window = Window::new(64);
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
        assert_eq!(seen, [4, 8, 16, 32, 64, 64]);
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
        for _ in 0..20 {
            let _slots = fill(&window);
            window.succeeded();
        }
        assert!(limit(&window) > 2 * START);
        for _ in 0..100 {
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
