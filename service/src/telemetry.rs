//! Logs to stderr, spans to an OTLP collector if one is configured, metrics for Prometheus.

mod config;
mod json_line;
mod log_level;
mod otlp;
mod whole_line;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use metrics::SetRecorderError;
use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as log, reload};

pub use config::{Config, LogFormat};
pub use log_level::{LogLevel, LogLevelError, LogLevelView, NewLogLevel, Shown, log_level};
pub use whole_line::WHOLE_LINE;

use crate::metrics::Buckets;
use crate::trace;
use json_line::JsonLine;

/// The target of the access log's lines. It has a setting of its own, so filters for other lines leave it on.
pub const ACCESS_LOG: &str = "evergreen::access";

/// How often histogram samples are aggregated into buckets if nothing scrapes them. Until then each sample takes
/// memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long [`Telemetry::flush`] may take.
const FLUSH: Duration = Duration::from_secs(5);

/// The running telemetry of this process.
#[must_use = "queued spans are lost unless it is flushed"]
pub struct Telemetry {
    metrics: PrometheusHandle,
    spans: Option<SdkTracerProvider>,
    /// Dropped to end the upkeep.
    _upkeep: mpsc::Sender<()>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `EVERGREEN_LOG`
    #[error("the log filter is not understood")]
    Filter(#[from] ParseError),
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`
    #[error("spans cannot be exported")]
    Exporter(#[from] ExporterBuildError),
    /// Something else logs in this process.
    #[error("logging cannot be set up")]
    Log(#[from] TryInitError),
    /// A mistake in the program.
    #[error("the histogram buckets are not accepted")]
    Buckets(#[from] BuildError),
    /// Something else records metrics in this process.
    #[error("metrics cannot be recorded")]
    Recorder(#[from] SetRecorderError<PrometheusRecorder>),
    /// The system cannot start a thread.
    #[error("the thread for metrics cannot be started")]
    Upkeep(#[source] io::Error),
}

impl Telemetry {
    /// Installs the logger, the metrics recorder and, if an endpoint is set, the span exporter. They apply to the whole
    /// process, so a second start is an error. `buckets`: of the histograms that need other ones than the usual.
    ///
    /// If an endpoint is set, the process's default TLS provider must be installed before.
    pub fn start(config: &Config, buckets: &[Buckets]) -> Result<Self, Error> {
        let (filter, handle) = reload::Layer::new(log_level::filter(&config.filter)?);
        let spans = config
            .spans
            .as_ref()
            .map(|spans| spans.provider(&config.instance, config.version));
        let spans = spans.transpose()?;
        let export = spans.as_ref().map(|spans| {
            tracing_opentelemetry::layer()
                .with_tracer(spans.tracer("evergreen"))
                // The status of a call says whether it failed. Its log lines do not.
                .with_error_events_to_status(false)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(exported())
        });
        tracing_subscriber::registry()
            .with(export)
            .with(log_layer(config).with_filter(filter))
            .try_init()?;
        log_level::install(handle, &config.filter);
        if spans.is_some() {
            trace::enable();
        }

        let recorder = crate::metrics::recorder(buckets)?;
        let metrics = recorder.handle();
        metrics::set_global_recorder(recorder)?;
        let upkeep = start_upkeep(metrics.clone()).map_err(Error::Upkeep)?;
        Ok(Self {
            metrics,
            spans,
            _upkeep: upkeep,
        })
    }

    /// The handle that `/metrics` renders.
    #[must_use]
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }

    /// Sends the queued spans. It blocks for up to 5 s, so call it last before the process ends.
    pub fn flush(self) {
        if let Some(spans) = self.spans
            && let Err(reason) = spans.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%reason, "not all spans could be exported");
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Telemetry")
            .field("exporting", &self.spans.is_some())
            .finish_non_exhaustive()
    }
}

/// Our own spans, independent of the log filter. Spans of libraries are excluded, since each export would create
/// another one.
fn exported() -> Targets {
    let libraries = [
        "h2",
        "hyper",
        "hyper_util",
        "opentelemetry",
        "reqwest",
        "rustls",
        "tonic",
        "tower",
    ];
    let ours = Targets::new().with_default(LevelFilter::DEBUG);
    libraries.into_iter().fold(ours, |targets, library| {
        targets.with_target(library, LevelFilter::OFF)
    })
}

fn log_layer<S>(config: &Config) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = log::layer().with_writer(io::stderr);
    match config.log {
        LogFormat::Text => {
            let is_terminal = io::stderr().is_terminal();
            let text = whole_line::Text(log::format().with_ansi(is_terminal));
            layer.with_ansi(is_terminal).event_format(text).boxed()
        }
        LogFormat::Json => layer
            .with_ansi(false)
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine::new(&config.instance, config.version))
            .boxed(),
    }
}

/// A thread and not a task, so that it does not depend on a runtime.
fn start_upkeep(metrics: PrometheusHandle) -> io::Result<mpsc::Sender<()>> {
    let (alive, ended) = mpsc::channel();
    thread::Builder::new()
        .name("metrics-upkeep".to_owned())
        .spawn(move || {
            while ended.recv_timeout(UPKEEP) == Err(mpsc::RecvTimeoutError::Timeout) {
                metrics.run_upkeep();
            }
        })?;
    Ok(alive)
}
