//! The state that the schedulers of all apps share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex};

use service::readiness::Gate;
use service::shutdown::Shutdown;
use store::AppName;
use store_writer::StoreWriter;
use store_writer::backend::Schedule;
use tokio::sync::Mutex;

use crate::config::SchedulerConfig;
use crate::refresh::rate_limiter::RateLimiter;
use crate::refresh::worker::Worker;

/// The state that the schedulers of all apps share.
#[derive(Debug)]
pub(crate) struct Schedulers {
    pub(crate) config: SchedulerConfig,
    pub(crate) writer: StoreWriter,
    pub(crate) worker: Arc<Worker>,
    pub(crate) gates: Gates,
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

/// The readiness gates that the schedulers control.
#[derive(Debug)]
pub(crate) struct Gates {
    /// Open while the schedule can be read.
    pub store: Gate,
    /// Open while an app can be used: its name is its own, and GHL accepts its credentials.
    pub apps: Gate,
}
