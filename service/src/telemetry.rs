//! Logs to stderr, spans to an OTLP collector if one is configured, metrics for Prometheus.

mod whole_line;

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use metrics::SetRecorderError;
use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt as log};
use url::Url;

pub use whole_line::WHOLE_LINE;

use crate::config::Settings;
use crate::metrics::Buckets;
use crate::trace;

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

/// The settings of logs and spans.
#[derive(Clone, Debug)]
pub struct Config {
    /// How lines are written.
    pub log: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info,broker=debug`.
    pub filter: String,
    /// The collector's base URL. `v1/traces` is appended.
    pub otlp_endpoint: Option<Url>,
    /// The service name that spans carry.
    pub service: &'static str,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for machines.
    Json,
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

impl Config {
    /// Reads `EVERGREEN_LOG` (the filter; default `info`), `EVERGREEN_LOG_FORMAT` (`text` or
    /// `json`; default `text`) and `OTEL_EXPORTER_OTLP_ENDPOINT` (unset: no export).
    pub fn read(settings: &mut Settings<'_>, service: &'static str) -> Self {
        let filter = settings
            .text("EVERGREEN_LOG")
            .unwrap_or_else(|| "info".to_owned());
        if let Err(reason) = EnvFilter::try_new(&filter) {
            settings.mistake(
                "EVERGREEN_LOG",
                format!("must be a log filter such as info,broker=debug: {reason}"),
            );
        }
        Self {
            log: settings.parse("EVERGREEN_LOG_FORMAT", LogFormat::Text, "text or json"),
            filter,
            otlp_endpoint: settings.url_optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
            service,
        }
    }
}

impl Telemetry {
    /// Installs the logger, the metrics recorder and, if an endpoint is set, the span exporter. They apply to the whole
    /// process, so a second start is an error. `buckets`: of the histograms that need other ones than the usual.
    ///
    /// If an endpoint is set, the process's default TLS provider must be installed before.
    pub fn start(config: &Config, buckets: &[Buckets]) -> Result<Self, Error> {
        // Added to every filter, so that a custom filter does not remove the whole lines and the access log.
        let always = format!("{WHOLE_LINE}=info,{ACCESS_LOG}=info");
        let filter = EnvFilter::try_new(format!("{always},{}", config.filter))?;
        let spans = config
            .otlp_endpoint
            .as_ref()
            .map(|endpoint| exporter(endpoint, config.service))
            .transpose()?;
        let export = spans.as_ref().map(|spans| {
            tracing_opentelemetry::layer()
                .with_tracer(spans.tracer("evergreen"))
                .with_filter(exported())
        });
        tracing_subscriber::registry()
            .with(export)
            .with(log_layer(config.log).with_filter(filter))
            .try_init()?;
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

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("no such format"),
        }
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
        "tower",
    ];
    let ours = Targets::new().with_default(LevelFilter::DEBUG);
    libraries.into_iter().fold(ours, |targets, library| {
        targets.with_target(library, LevelFilter::OFF)
    })
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = log::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let is_terminal = io::stderr().is_terminal();
            let text = whole_line::Text(log::format().with_ansi(is_terminal));
            layer.with_ansi(is_terminal).event_format(text).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Spans are sent in batches by a thread of the exporter.
fn exporter(
    endpoint: &Url,
    service: &'static str,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let base = endpoint.as_str().trim_end_matches('/');
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{base}/v1/traces"))
        .build()?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
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
