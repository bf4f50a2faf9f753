//! Time limits of a connection. hyper has one timeout for a late head and for an idle connection, and none for
//! an answer that nobody reads.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use axum::http::Version;
use tokio::time::Instant;

use crate::listen::{HEAD_TIMEOUT, IDLE_TIMEOUT};
use crate::locks::lock;

/// How long a connection without a request may stay open after a stop. Its caller may be sending one.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Shared by the parts of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug, Clone)]
struct State {
    is_http2: bool,
    /// Requests whose answers are not complete.
    in_flight: u32,
    /// The last byte of an answer, or the beginning of the connection.
    idle_since: Instant,
    /// When the first byte of a head arrived. Known with HTTP/1.1 only.
    head_since: Option<Instant>,
    /// When the answer under way has to be complete. With HTTP/1.1 only.
    answer_by: Option<Instant>,
    /// The last request has a body that was not read to its end. With HTTP/1.1 only.
    has_unread_body: bool,
    /// That body is too long to be read for nothing.
    is_long: bool,
    is_torn: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::new(Instant::now())))
    }

    /// Bytes arrived.
    pub(super) fn read(&self) {
        self.state().read(Instant::now);
    }

    /// Bytes were sent.
    pub(super) fn written(&self) {
        self.state().written(Instant::now);
    }

    /// The head of a request is complete.
    pub(super) fn request(&self, version: Version, has_body: bool, is_long: bool) {
        let mut state = self.state();
        state.is_http2 = version == Version::HTTP_2;
        state.has_unread_body = has_body && !state.is_http2;
        state.is_long = is_long;
        state.in_flight += 1;
        state.head_since = None;
    }

    /// The body of a request was read to its end, or will not be.
    pub(super) fn uploaded(&self) {
        let mut state = self.state();
        state.has_unread_body = false;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }

    /// The head of an answer is there. Returns whether its request is still being uploaded, and for long.
    pub(super) fn answer(&self, timeout: Duration) -> bool {
        let mut state = self.state();
        if !state.is_http2 {
            state.answer_by = Some(Instant::now() + timeout);
        }
        state.has_unread_body && state.is_long
    }

    /// An answer is complete, or given up.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.answer_by = None;
        state.idle_since = Instant::now();
    }

    /// The answer under way broke, and its caller could take what it has for the whole.
    pub(super) fn tear(&self) {
        self.state().is_torn = true;
    }

    pub(super) fn is_torn(&self) -> bool {
        self.state().is_torn
    }

    /// When the connection is to be closed, unless something happens; `None` while a request is handled.
    pub(super) fn deadline(&self, stopped_at: Option<Instant>) -> Option<Instant> {
        self.state().deadline(stopped_at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            is_http2: false,
            in_flight: 0,
            idle_since: now,
            head_since: None,
            answer_by: None,
            has_unread_body: false,
            is_long: false,
            is_torn: false,
        }
    }

    fn read(&mut self, now: impl FnOnce() -> Instant) {
        // The rest of a body that nobody wants is no head.
        if self.in_flight == 0 && !self.is_http2 && !self.has_unread_body {
            self.head_since.get_or_insert_with(now);
        }
    }

    /// The rest of an answer may be on its way after hyper is done with it.
    fn written(&mut self, now: impl FnOnce() -> Instant) {
        if self.in_flight == 0 {
            self.idle_since = now();
        }
    }

    fn deadline(&self, stopped_at: Option<Instant>) -> Option<Instant> {
        if self.answer_by.is_some() {
            return self.answer_by;
        }
        if self.in_flight > 0 {
            return None;
        }
        let usual = match self.head_since {
            Some(since) => since + HEAD_TIMEOUT,
            None => self.idle_since + IDLE_TIMEOUT,
        };
        let after_stop = stopped_at.map(|at| at.max(self.idle_since) + STOP_GRACE);
        Some(after_stop.map_or(usual, |at| at.min(usual)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_a_head_and_an_answer_have_limits_and_a_handler_has_none() {
        let start = Instant::now();
        let activity = Activity::new();
        assert_eq!(activity.deadline(None), Some(start + IDLE_TIMEOUT));
        activity.read();
        tokio::time::advance(SECOND).await;
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + HEAD_TIMEOUT));
        activity.request(Version::HTTP_11, false, false);
        activity.read();
        assert_eq!(activity.deadline(None), None);
        assert!(!activity.answer(SECOND));
        assert_eq!(activity.deadline(None), Some(start + 2 * SECOND));
        activity.answered();
        assert_eq!(activity.deadline(None), Some(start + SECOND + IDLE_TIMEOUT));
        tokio::time::advance(SECOND).await;
        activity.written();
        assert_eq!(
            activity.deadline(None),
            Some(start + 2 * SECOND + IDLE_TIMEOUT)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_leaves_a_second_to_whoever_has_no_request_in_flight() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.read();
        assert_eq!(activity.deadline(Some(start)), Some(start + STOP_GRACE));
        activity.request(Version::HTTP_2, false, false);
        assert_eq!(activity.deadline(Some(start)), None);
        tokio::time::advance(5 * SECOND).await;
        activity.answered();
        let expected = start + 5 * SECOND + STOP_GRACE;
        assert_eq!(activity.deadline(Some(start)), Some(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_is_no_head() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.request(Version::HTTP_11, true, false);
        assert!(!activity.answer(SECOND), "it is short");
        activity.answered();
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + IDLE_TIMEOUT));
        tokio::time::advance(SECOND).await;
        activity.uploaded();
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + SECOND + HEAD_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_http2_are_no_heads() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.request(Version::HTTP_2, true, true);
        assert!(
            !activity.answer(SECOND),
            "its streams have limits of their own"
        );
        activity.answered();
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + IDLE_TIMEOUT));
    }
}
