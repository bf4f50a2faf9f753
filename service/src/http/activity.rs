//! Timeouts of a connection. hyper has a single timeout for late heads and idle connections, and none for unread
//! responses.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use axum::http::Version;
use tokio::time::Instant;

use crate::limits::{HEAD_TIMEOUT, IDLE_TIMEOUT, STOP_GRACE};
use crate::locks::lock;

/// How long a caller that has its answer may pause while it sends the rest of its body.
const LINGER: Duration = Duration::from_secs(5);

/// Shared by the parts of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug, Clone)]
struct State {
    is_http2: bool,
    /// Requests whose responses are not complete.
    in_flight: u32,
    /// When the last byte of a response was sent, or when the connection began.
    idle_since: Instant,
    /// When the first byte of a head arrived. Known with HTTP/1.1 only.
    head_since: Option<Instant>,
    /// When the response in progress has to be complete. With HTTP/1.1 only.
    answer_by: Option<Instant>,
    /// The last request has a body that was not read to its end. With HTTP/1.1 only.
    has_unread_body: bool,
    /// That body is too long to be read and discarded.
    is_long: bool,
    is_broken: bool,
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

    /// The body of a request was read to its end, or its rest will not be read.
    pub(super) fn uploaded(&self) {
        let mut state = self.state();
        state.has_unread_body = false;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }

    /// The head of a response is ready. It has to be complete within `timeout`, if there is one. Returns whether a long body of its request is still being uploaded.
    pub(super) fn answer(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.state();
        if !state.is_http2 {
            state.answer_by = timeout.map(|timeout| Instant::now() + timeout);
        }
        state.has_unread_body && state.is_long
    }

    /// A response is complete or was aborted.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.answer_by = None;
        state.idle_since = Instant::now();
    }

    /// The response in progress failed, and its caller could mistake the received part for all of it.
    pub(super) fn mark_broken(&self) {
        self.state().is_broken = true;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state().is_broken
    }

    /// When to close the connection, unless there is activity. `None` while a request is handled.
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
            is_broken: false,
        }
    }

    fn read(&mut self, now: impl FnOnce() -> Instant) {
        if self.in_flight > 0 || self.is_http2 {
            return;
        }
        if self.has_unread_body {
            // The rest of a discarded body is not a head. It may come for as long as it keeps coming.
            self.idle_since = now();
        } else {
            self.head_since.get_or_insert_with(now);
        }
    }

    /// The rest of a response may still be sent after hyper has finished it.
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
            // A caller that has its answer, and stops sending in the middle of a body, does not go on.
            None if self.has_unread_body => self.idle_since + LINGER,
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
    async fn idle_head_and_response_have_timeouts_and_the_handler_has_none() {
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
        assert!(!activity.answer(None));
        assert_eq!(activity.deadline(None), None);
        assert!(!activity.answer(Some(SECOND)));
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
    async fn connection_without_request_closes_a_second_after_the_stop() {
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
    async fn rest_of_a_body_does_not_start_the_head_timeout() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.request(Version::HTTP_11, true, false);
        assert!(!activity.answer(Some(SECOND)), "it is short");
        activity.answered();
        assert_eq!(activity.deadline(None), Some(start + LINGER));
        tokio::time::advance(SECOND).await;
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + SECOND + LINGER));
        activity.uploaded();
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + SECOND + HEAD_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_frames_do_not_start_the_head_timeout() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.request(Version::HTTP_2, true, true);
        assert!(
            !activity.answer(Some(SECOND)),
            "its streams have limits of their own"
        );
        activity.answered();
        activity.read();
        assert_eq!(activity.deadline(None), Some(start + IDLE_TIMEOUT));
    }
}
