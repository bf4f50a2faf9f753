//! Reads the settings again on SIGHUP, and uses what can change while the process runs.
//!
//! All settings are read and checked first, as at the start. With a mistake in them, everything stays as it is.

mod changes;
pub(crate) mod gateway;
mod with_broker;

use std::io::{IsTerminal, stdin};

use service::config::Source;
use service::connection_limits::ConnectionLimits;
use service::shutdown::Shutdown;
use service::telemetry;
use service::tls::ListenerTls;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::exit::Failure;
use crate::settings::Common;
use changes::{Snapshot, Snapshots, changes};
pub(crate) use gateway::GatewayReload;
pub(crate) use with_broker::{BrokerReload, Read};

/// Settings of every process that a reload changes.
const RELOADED: &[&str] = &[
    "EVERGREEN_LOG",
    "EVERGREEN_MAX_CONNECTIONS",
    "EVERGREEN_MAX_CONNECTIONS_PER_ADDRESS",
];

/// The settings of a process that has read them anew and uses them.
#[derive(Debug)]
pub(crate) struct Reloaded {
    settings: Snapshot,
    /// How many apps and endpoints there are. `None` for a gateway.
    apps: Option<usize>,
    endpoints: Option<usize>,
    /// The settings of rings that have changed. A command may print another ring while its setting is the same.
    rings: Vec<&'static str>,
}

/// The parts that every process has.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) limits: ConnectionLimits,
    pub(crate) tls: Option<ListenerTls>,
}

impl Shared {
    fn reload(&self, common: &Common, telemetry: &telemetry::Config) {
        self.limits.set(&common.running().0);
        if let Some(tls) = &self.tls {
            tls.look_now();
        }
        set_log_filter(telemetry);
    }
}

fn set_log_filter(next: &telemetry::Config) {
    let Some(level) = telemetry::log_level() else {
        return;
    };
    if let Err(error) = level.configure(&next.filter) {
        // The settings were checked, so only a log that has ended can refuse it.
        warn!(%error, "the log filter stays as it is");
    }
}

/// The settings as they are in use, and those of the start.
#[derive(Debug)]
pub(crate) struct InUse {
    snapshots: Snapshots,
    start: Snapshot,
    now: Snapshot,
    is_reloaded: fn(&str) -> bool,
}

impl InUse {
    fn new(source: &dyn Source, is_reloaded: fn(&str) -> bool) -> Self {
        let snapshots = Snapshots::default();
        let start = snapshots.take(source);
        Self {
            now: start.clone(),
            start,
            snapshots,
            is_reloaded,
        }
    }

    fn report(&mut self, reloaded: Reloaded) {
        let Reloaded {
            settings,
            apps,
            endpoints,
            rings,
        } = reloaded;
        let mut found = changes(&self.start, &self.now, &settings, |key| {
            RELOADED.contains(&key) || (self.is_reloaded)(key)
        });
        self.now = settings;
        for ring in rings {
            if !found.applied.iter().any(|name| name.starts_with(ring)) {
                found.applied.push(ring.to_owned());
            }
        }
        let changed = match found.applied.as_slice() {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        let restart = found.need_restart.join(", ");
        let needs_restart = (!restart.is_empty()).then_some(restart.as_str());
        info!(
            apps,
            endpoints, changed, needs_restart, "the settings were read again"
        );
    }
}

/// A process whose settings can be read again.
pub(crate) trait Reload: Send + Sync + 'static {
    /// Reads all settings anew, checks them, and uses those that can change.
    fn reload(
        &self,
        snapshots: &Snapshots,
    ) -> impl Future<Output = Result<Reloaded, Failure>> + Send;
}

/// Runs until shutdown.
pub(crate) async fn on_hangup(mut in_use: InUse, shutdown: Shutdown, process: impl Reload) {
    let Some(mut hangups) = hangups() else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            heard = hangups.recv() => match heard {
                Some(()) => {}
                None => return,
            },
        }
        match process.reload(&in_use.snapshots).await {
            Ok(reloaded) => in_use.report(reloaded),
            Err(error) => {
                // One line of the log has all mistakes.
                let error = error.reason().replace('\n', "; ");
                error!(
                    error,
                    "the settings have mistakes, and everything stays as it is"
                );
            }
        }
    }
}

/// Reads settings on a thread of its own, since a command may have to print a secret.
async fn read_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(Failure::unavailable)?
}

/// At a terminal the signal says that the window was closed, and ends the process, as it does by default.
fn hangups() -> Option<Signal> {
    if stdin().is_terminal() {
        return None;
    }
    match signal(SignalKind::hangup()) {
        Ok(hangups) => Some(hangups),
        Err(error) => {
            warn!(%error, "SIGHUP is not heard: a change of the settings needs a restart");
            None
        }
    }
}
