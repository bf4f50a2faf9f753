//! The access log: one line for a request, of those that fail or of all (`EVERGREEN_ACCESS_LOG`).
//!
//! `record` has what the stages learn about a request. `decision` says which requests get a line. `line` writes it. No
//! line contains a query, a key or a token.

pub(crate) mod decision;
pub(crate) mod line;
mod line_limit;
pub(crate) mod path;
pub(crate) mod record;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use service::locks::lock;
use service::shutdown::Shutdown;
use service::telemetry::ACCESS_LOG;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::warn;

use decision::{AtomicMode, Mode, Reason, decide};
use line::Line;
use line_limit::LineLimit;
use record::RequestRecord;

/// How often a line says how many lines were left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The access log of a gateway.
#[derive(Debug)]
pub(crate) struct AccessLog {
    mode: AtomicMode,
    own_errors: Mutex<LineLimit>,
    ghl_errors: Mutex<LineLimit>,
    /// Of the causes of failures, which have lines of their own.
    causes: Mutex<LineLimit>,
    left_out: AtomicU64,
    has_left_out: Notify,
    /// The lines of a test.
    #[cfg(test)]
    pub(crate) written: Mutex<Vec<Line>>,
}

impl AccessLog {
    pub(crate) fn new(mode: Mode) -> Self {
        let now = Instant::now();
        Self {
            mode: AtomicMode::new(mode),
            own_errors: Mutex::new(LineLimit::new(now)),
            ghl_errors: Mutex::new(LineLimit::new(now)),
            causes: Mutex::new(LineLimit::new(now)),
            left_out: AtomicU64::new(0),
            has_left_out: Notify::new(),
            #[cfg(test)]
            written: Mutex::default(),
        }
    }

    /// Uses another mode from now on.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.set(mode);
    }

    /// Begins the record of a request, which finds it among its extensions. `None` if the access log is off. Then nothing
    /// is allocated.
    pub(crate) fn begin(&self, request: &mut Request) -> Option<Arc<RequestRecord>> {
        if self.mode.get() == Mode::Off {
            return None;
        }
        let record = Arc::new(RequestRecord::new(request));
        request.extensions_mut().insert(Arc::clone(&record));
        Some(record)
    }

    /// Writes the line of an answered request, if it gets one.
    pub(crate) fn end(&self, line: &Line) {
        let Some(reason) = decide(self.mode.get(), line.facts) else {
            return;
        };
        if !self.admits(reason) {
            return self.leave_out();
        }
        line.write();
        #[cfg(test)]
        lock(&self.written).push(line.clone());
    }

    /// Whether the cause of a failure may be written. They have a limit of their own, also if the access log is off.
    pub(crate) fn admits_cause(&self) -> bool {
        let is_admitted = lock(&self.causes).take(Instant::now());
        if !is_admitted {
            self.leave_out();
        }
        is_admitted
    }

    fn leave_out(&self) {
        if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            self.has_left_out.notify_one();
        }
    }

    /// Overload and outages must not flood the log. Each has its own limit, so that neither hides the other.
    fn admits(&self, reason: Reason) -> bool {
        let limit = match reason {
            Reason::OwnError => &self.own_errors,
            Reason::GhlError => &self.ghl_errors,
            Reason::Slow | Reason::Other => return true,
        };
        lock(limit).take(Instant::now())
    }

    /// Says how many lines were left out, at most once a second, until the shutdown starts.
    pub(crate) async fn report_left_out(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                () = self.has_left_out.notified() => {}
            }
            // A stop ends the wait, so that the last number is said, too.
            tokio::select! {
                () = shutdown.started() => {}
                () = sleep(REPORT_INTERVAL) => {}
            }
            let left_out = self.take_left_out();
            warn!(target: ACCESS_LOG, left_out, "lines of failed requests were left out");
        }
    }

    fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::decision::Facts;
    use super::line_limit::LINES_PER_SECOND;
    use super::*;
    use crate::metrics::AnsweredBy;

    fn answered(by: AnsweredBy, status: u16) -> Line {
        Line {
            record: Arc::new(RequestRecord::new(&Request::default())),
            request_id: HeaderValue::from_static("r-1"),
            facts: Facts {
                by,
                status: StatusCode::from_u16(status).unwrap(),
                took: Duration::ZERO,
            },
            code: None,
            bytes: None,
        }
    }

    fn written(log: &AccessLog) -> usize {
        std::mem::take(&mut *lock(&log.written)).len()
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_errors_is_limited_and_counted() {
        let log = AccessLog::new(Mode::All);
        let limit = usize::try_from(LINES_PER_SECOND).unwrap();
        let flood = limit + 7;
        for _ in 0..flood {
            log.end(&answered(AnsweredBy::Evergreen, 503));
        }
        assert_eq!(written(&log), limit);
        assert_eq!(log.take_left_out(), 7);
        // They hide neither the errors of GHL nor the successes.
        for _ in 0..flood {
            log.end(&answered(AnsweredBy::Ghl, 502));
            log.end(&answered(AnsweredBy::Ghl, 200));
        }
        assert_eq!(written(&log), limit + flood);
        assert_eq!(log.take_left_out(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn causes_of_failures_are_limited_and_counted() {
        let log = AccessLog::new(Mode::Off);
        let flood = LINES_PER_SECOND + 7;
        let admitted: u32 = (0..flood).map(|_| u32::from(log.admits_cause())).sum();
        assert_eq!(admitted, LINES_PER_SECOND);
        assert_eq!(log.take_left_out(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn left_out_lines_are_reported_after_a_second() {
        let log = Arc::new(AccessLog::new(Mode::Errors));
        let shutdown = Shutdown::new();
        for _ in 0..=LINES_PER_SECOND {
            log.end(&answered(AnsweredBy::Evergreen, 429));
        }
        let reporting = tokio::spawn(Arc::clone(&log).report_left_out(shutdown.clone()));
        sleep(REPORT_INTERVAL * 2).await;
        assert_eq!(log.take_left_out(), 0);
        shutdown.start();
        reporting.await.unwrap();
    }

    #[test]
    fn record_is_made_only_if_a_line_may_be_written() {
        for (mode, is_made) in [(Mode::Off, false), (Mode::Errors, true), (Mode::All, true)] {
            let mut request = Request::default();
            let record = AccessLog::new(mode).begin(&mut request);
            assert_eq!(record.is_some(), is_made, "{mode:?}");
            let found = RequestRecord::of(request.extensions());
            assert_eq!(found.is_some(), is_made, "{mode:?}");
        }
    }
}
