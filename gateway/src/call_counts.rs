//! Counts calls to GHL for the overview, and reports the counts to a broker every few seconds.
//!
//! Each worker counts in memory of its own, since a number that all cores write would slow all of them. A report that
//! fails is not sent again: numbers are lost then, and nothing else.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use service::locks::lock;
use service::shutdown::Shutdown;
use store::audit::{Calls, GatewayReport, Report};
use store::{Timestamp, random};
use tokio::time::sleep;
use tracing::debug;

use crate::audit::Delivery;
use crate::metrics::{AnsweredBy, Route};

/// How often there is a report. It also says that this gateway runs.
const INTERVAL: Duration = Duration::from_secs(15);
/// The first one comes sooner, so that a new gateway is seen.
const FIRST: Duration = Duration::from_secs(5);

/// The counts of one worker, on a cache line of their own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct WorkerCounts {
    forwarded: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    ghl_4xx: AtomicU64,
    ghl_429: AtomicU64,
    ghl_5xx: AtomicU64,
}

impl WorkerCounts {
    /// Counts a request that was answered.
    pub(crate) fn count(&self, route: Route, by: AnsweredBy, status: StatusCode) {
        if !route.leads_to_ghl() {
            return;
        }
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        match by {
            AnsweredBy::Ghl => {
                add(&self.forwarded);
                if status == StatusCode::TOO_MANY_REQUESTS {
                    add(&self.ghl_429);
                } else if status.is_client_error() {
                    add(&self.ghl_4xx);
                } else if status.is_server_error() {
                    add(&self.ghl_5xx);
                }
            }
            AnsweredBy::Evergreen if status.is_server_error() => {
                add(&self.failed);
            }
            // Without an error, GHL would have answered.
            AnsweredBy::Evergreen => {
                add(&self.refused);
            }
        }
    }

    fn take(&self) -> Calls {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Calls {
            forwarded: take(&self.forwarded),
            refused: take(&self.refused),
            failed: take(&self.failed),
            ghl_4xx: take(&self.ghl_4xx),
            ghl_429: take(&self.ghl_429),
            ghl_5xx: take(&self.ghl_5xx),
        }
    }
}

/// The counts of all workers, and the name of this process.
pub(crate) struct CallCounts {
    name: String,
    started: Timestamp,
    workers: Mutex<Vec<Arc<WorkerCounts>>>,
}

impl CallCounts {
    /// `now`: the store's time.
    pub(crate) fn new(now: Timestamp) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "gateway",
            host => host,
        };
        Self {
            name: format!("{host}-{}", random::hex::<2>()),
            started: now,
            workers: Mutex::default(),
        }
    }

    /// The counts of another worker.
    pub(crate) fn worker(&self) -> Arc<WorkerCounts> {
        let worker = Arc::<WorkerCounts>::default();
        lock(&self.workers).push(Arc::clone(&worker));
        worker
    }

    fn take(&self) -> Calls {
        let mut sum = Calls::default();
        for worker in lock(&self.workers).iter() {
            let calls = worker.take();
            sum.forwarded += calls.forwarded;
            sum.refused += calls.refused;
            sum.failed += calls.failed;
            sum.ghl_4xx += calls.ghl_4xx;
            sum.ghl_429 += calls.ghl_429;
            sum.ghl_5xx += calls.ghl_5xx;
        }
        sum
    }

    fn report(&self, calls: Calls) -> Report {
        let gateway = GatewayReport {
            id: random::hex::<8>(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            calls,
        };
        Report {
            gateway: Some(gateway),
            ..Report::default()
        }
    }

    /// Reports until the shutdown starts.
    pub(crate) async fn run(self: Arc<Self>, reports: Arc<Delivery>, shutdown: Shutdown) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = sleep(pause) => {}
            }
            pause = INTERVAL;
            self.send(&reports, self.take()).await;
        }
    }

    /// Reports the last calls. After the last request.
    pub(crate) async fn finish(&self, reports: &Delivery) {
        let calls = self.take();
        if !calls.is_empty() {
            self.send(reports, calls).await;
        }
    }

    async fn send(&self, reports: &Delivery, calls: Calls) {
        if let Err(error) = reports.send(&self.report(calls)).await {
            debug!(%error, "a report of calls is lost: no broker takes it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_the_answer_and_summed_over_all_workers() {
        let counts = CallCounts::new(Timestamp::from_millis(0));
        let (one, other) = (counts.worker(), counts.worker());
        let (ghl, own) = (AnsweredBy::Ghl, AnsweredBy::Evergreen);
        for (worker, route, by, status) in [
            (&one, Route::Ghl, ghl, 200),
            (&other, Route::Ghl, ghl, 404),
            (&other, Route::Products, ghl, 429),
            (&one, Route::UploadFile, ghl, 502),
            (&one, Route::Ghl, own, 401),
            (&other, Route::Ghl, own, 503),
            (&one, Route::Health, own, 200),
            (&one, Route::Broker, own, 500),
        ] {
            worker.count(route, by, StatusCode::from_u16(status).unwrap());
        }
        let expected = Calls {
            forwarded: 4,
            refused: 1,
            failed: 1,
            ghl_4xx: 1,
            ghl_429: 1,
            ghl_5xx: 1,
        };
        assert_eq!(counts.take(), expected);
        assert!(counts.take().is_empty(), "a call is reported once");
    }
}
