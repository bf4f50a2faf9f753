//! A serving process, from its start to its shutdown.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use gateway::Gateway;
use service::config::{Settings, Source};
use service::connection_limits::ConnectionLimits;
use service::listen;
use service::metrics::{Buckets, describe_process};
use service::ops;
use service::origin::OwnHosts;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use service::telemetry::{self, Telemetry};
use service::tls::{Callers, ListenerTls};
use service::workers::Workers;
use store::TokenReader;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::exit::Failure;
use crate::metrics_auth::KeyUsed;
use crate::reload::{self, InUse, Reload};
use crate::{metrics_auth, openapi, settings};

/// The names of the listeners in metrics.
const PUBLIC: &str = "public";
const INTERNAL: &str = "internal";

/// The histograms that need other buckets than the usual.
const BUCKETS: [Buckets; 4] = [
    (store::metrics::DURATION, &store::metrics::DURATION_BUCKETS),
    broker::TOKEN_ENDPOINT_BUCKETS,
    gateway::BUCKETS[0],
    gateway::BUCKETS[1],
];

/// The parts that every serving process has.
pub(crate) struct Process {
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    /// The shutdown of the internal listener, which serves until all else has finished.
    internal: Shutdown,
    limits: ConnectionLimits,
    /// `None` without TLS.
    tls: Option<ListenerTls>,
    telemetry: Telemetry,
}

impl Process {
    /// Starts logs, metrics and spans, and listens for signals. `role`: such as `broker`, for metrics. `drain`: how long the
    /// process serves on, without being ready, after a signal to stop.
    pub(crate) fn start(
        (role, telemetry): (&'static str, &telemetry::Config),
        (limits, drain): (ConnectionLimits, Duration),
        source: &dyn Source,
    ) -> Result<Self, Failure> {
        let telemetry = Telemetry::start(telemetry, &BUCKETS).map_err(Failure::unavailable)?;
        describe_process(role, crate::VERSION);
        for doubt in settings::doubts(source) {
            warn!("{doubt}");
        }
        let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
        shutdown.on_signals(&readiness, drain);
        Ok(Self {
            shutdown,
            readiness,
            internal: Shutdown::new(),
            limits,
            tls: None,
            telemetry,
        })
    }

    /// With TLS on its listeners, and a certificate that follows its files.
    pub(crate) fn with_tls(self, tls: Option<ListenerTls>) -> Self {
        if let Some(tls) = tls.clone() {
            self.shutdown.spawn(tls.keep_current(self.shutdown.clone()));
        }
        Self { tls, ..self }
    }

    /// The parts of this process that a reload changes.
    pub(crate) fn reloaded(&self) -> reload::Shared {
        reload::Shared {
            limits: self.limits.clone(),
            tls: self.tls.clone(),
        }
    }

    /// Reads the settings again on SIGHUP, until shutdown.
    pub(crate) fn reload_on_hangup(&self, in_use: InUse, process: impl Reload) {
        let until = self.shutdown.clone();
        self.shutdown
            .spawn(reload::on_hangup(in_use, until, process));
    }

    /// Serves on a listener until shutdown.
    pub(crate) fn serve(&self, listener: TcpListener, router: Router, callers: Callers) {
        let limits = self.limits.of_listener(PUBLIC);
        self.serve_until(&self.shutdown, listener, (router, callers), limits);
    }

    /// Serves on the internal listener until everything else has finished, so that the metrics of the last requests can
    /// be read.
    pub(crate) fn serve_internal(&self, listener: TcpListener, router: Router) {
        let limits = self.limits.of_listener(INTERNAL);
        let served = (router, Callers::InternalAndProbes);
        self.serve_until(&self.internal, listener, served, limits);
    }

    fn serve_until(
        &self,
        shutdown: &Shutdown,
        listener: TcpListener,
        (router, callers): (Router, Callers),
        limits: ConnectionLimits,
    ) {
        let tls = self.tls.clone();
        let until = shutdown.clone();
        shutdown.spawn(async move {
            match tls {
                Some(tls) => {
                    listen::serve_tls(listener, router, (&tls, callers), limits, until).await;
                }
                None => listen::serve(listener, router, limits, until).await,
            }
        });
    }

    /// Serves without TLS on a listener until the process ends. For requests of the process itself, whose shutdown waits for
    /// their answers.
    pub(crate) fn serve_itself(&self, listener: TcpListener, router: Router) {
        let never = Shutdown::new();
        let serving = listen::serve(listener, router, self.limits.clone(), never);
        drop(tokio::spawn(serving));
    }

    /// Serves the gateway until shutdown, with one worker thread per core.
    pub(crate) fn serve_on_workers(
        &self,
        listener: TcpListener,
        gateway: Gateway,
    ) -> Result<(), Failure> {
        let handler = move || gateway.for_worker().public();
        let tls = self.tls.as_ref().map(|tls| (tls, Callers::Public));
        let limits = self.limits.of_listener(PUBLIC);
        let workers = Workers::start(handler, tls).map_err(Failure::unavailable)?;
        self.shutdown
            .spawn(workers.serve(listener, limits, self.shutdown.clone()));
        Ok(())
    }

    /// The routes for health, metrics and the documentation of all routes. Beyond loopback, all but health need a caller
    /// key. `own_hosts`: the names of the listener. `used`: notes the use of the key.
    pub(crate) fn ops(
        &self,
        address: SocketAddr,
        own_hosts: OwnHosts,
        reader: TokenReader,
        used: KeyUsed,
    ) -> Router {
        let routes = ops::router(self.telemetry.metrics(), self.readiness.clone());
        let routes = routes.merge(openapi::routes(own_hosts));
        if address.ip().is_loopback() {
            routes
        } else {
            metrics_auth::require_key(routes, reader, used)
        }
    }

    /// Waits for shutdown, then for work in progress until `deadline`. `last` runs after the last request, within the
    /// same time.
    pub(crate) async fn run(
        self,
        deadline: Duration,
        last: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        self.shutdown.started().await;
        let ends_at = Instant::now() + deadline;
        let is_finished = self.finished(ends_at).await;
        if timeout_at(ends_at, last).await.is_err() {
            warn!("the end of the audit log was not written: the shutdown timeout has expired");
        }
        let has_failed = self.shutdown.has_failed();
        let refusal = self.shutdown.refusal();
        if is_finished {
            info!("stopped");
        }
        // Flushing blocks for seconds if the collector is unreachable.
        let flushed = tokio::task::spawn_blocking(move || self.telemetry.flush());
        let _ = flushed.await;
        if let Some(reason) = refusal {
            return Err(Failure::Unavailable(reason));
        }
        match (has_failed, is_finished) {
            (true, _) => Err(Failure::Broken),
            (false, true) => Ok(()),
            (false, false) => Err(Failure::Unfinished),
        }
    }

    /// Waits until all work has ended, then ends the internal listener. Returns false if the deadline came first.
    async fn finished(&self, ends_at: Instant) -> bool {
        let left = || ends_at.saturating_duration_since(Instant::now());
        let work = self.shutdown.finished(left()).await;
        self.internal.start();
        let internal = self.internal.finished(left()).await;
        // Its last requests may have begun some more.
        work && internal && self.shutdown.finished(left()).await
    }
}

/// Binds an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    listen::bind(address).await.map_err(Failure::unavailable)
}

/// Reads all settings at once. Every mistake is reported, and nothing is bound before all are correct.
pub(crate) fn read<T>(
    source: &dyn Source,
    read: impl FnOnce(&mut Settings<'_>) -> T,
) -> Result<T, Failure> {
    let mut settings = Settings::new(source);
    let value = read(&mut settings);
    Ok(settings.finish(value)?)
}
