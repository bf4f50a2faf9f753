//! The state that the schedulers of all apps share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use service::locks::lock;
use service::readiness::Gate;
use service::shutdown::Shutdown;
use store::AppName;
use store_writer::StoreWriter;
use store_writer::backend::Schedule;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::SchedulerConfig;
use crate::refresh::rate_limiter::RateLimiter;
use crate::refresh::worker::Worker;

/// The state that the schedulers of all apps share.
#[derive(Debug)]
pub(crate) struct Schedulers {
    pub(crate) config: SchedulerConfig,
    pub(crate) writer: StoreWriter,
    pub(crate) worker: Arc<Worker>,
    /// Open while an app can be used: its name is its own, and GHL accepts its credentials.
    pub(crate) apps_gate: Gate,
    pub(crate) progress: Progress,
    pub(crate) rate_limiter: Mutex<RateLimiter>,
    pub(crate) shutdown: Shutdown,
    /// The apps that have a scheduler. One that is removed and added again must not get a second one.
    pub(crate) running: StdMutex<BTreeSet<AppName>>,
}

impl Schedulers {
    /// Whether no attempt of any app has an unknown outcome, also of apps of other deployments. An outage concerns all.
    pub(super) async fn is_nothing_in_doubt(&self) -> bool {
        let Ok(mut apps) = self.writer.apps().await else {
            return false;
        };
        let known = self.worker.apps.current();
        apps.extend(known.apps.iter().map(|app| app.name.clone()));
        for app in &apps {
            match self.writer.poll_due(Schedule::OpenIntent, app).await {
                Ok(poll) if poll.due.is_empty() && poll.next_in.is_none() && poll.missing == 0 => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

/// When the schedule of each app advanced last: its due installations were read, or some were claimed.
#[derive(Debug, Default)]
pub(crate) struct Progress(StdMutex<BTreeMap<AppName, Instant>>);

impl Progress {
    /// Notes that a schedule begins or advances.
    pub(super) fn advanced(&self, app: &AppName) {
        lock(&self.0).insert(app.clone(), Instant::now());
    }

    /// Notes that a schedule is not followed any more.
    pub(super) fn ended(&self, app: &AppName) {
        lock(&self.0).remove(app);
    }

    /// For how long each schedule has stood still.
    pub(crate) fn standstills(&self) -> Vec<(AppName, Duration)> {
        let advanced = lock(&self.0);
        let advanced = advanced.iter();
        advanced
            .map(|(app, at)| (app.clone(), at.elapsed()))
            .collect()
    }
}
