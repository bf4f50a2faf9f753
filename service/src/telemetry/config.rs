//! The settings of logs and spans.

use std::fmt;
use std::fs;
use std::process;
use std::str::FromStr;

use super::log_level;
use super::otlp::SpanExport;
use crate::config::Settings;

/// The settings of logs and spans.
#[derive(Clone, Debug)]
pub struct Config {
    /// How lines are written.
    pub log: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info,broker=debug`.
    pub filter: String,
    /// The name of this process in JSON lines, and `service.instance.id` of its spans.
    pub instance: String,
    /// The version of this build, in JSON lines and with spans.
    pub version: &'static str,
    /// `None` if spans are not exported.
    pub spans: Option<SpanExport>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// The setting is no format.
#[derive(Debug, thiserror::Error)]
#[error("no such format")]
pub struct UnknownFormat;

impl Config {
    /// Reads `EVERGREEN_LOG` (the filter; default `info`), `EVERGREEN_LOG_FORMAT` (`text` or `json`; default `text`),
    /// `EVERGREEN_INSTANCE`, and the settings of OpenTelemetry. Without `OTEL_EXPORTER_OTLP_ENDPOINT` and
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, no spans are exported.
    ///
    /// `service`: the service name that spans have, unless the settings say another. `version`: that of the build.
    pub fn read(settings: &mut Settings<'_>, service: &str, version: &'static str) -> Self {
        let filter = settings.text_or("EVERGREEN_LOG", "info");
        if let Err(reason) = log_level::filter(&filter) {
            settings.mistake(
                "EVERGREEN_LOG",
                format!("must be a log filter such as info,broker=debug: {reason}"),
            );
        }
        Self {
            log: settings.parse("EVERGREEN_LOG_FORMAT", LogFormat::Text, "text or json"),
            filter,
            instance: instance(settings),
            version,
            spans: SpanExport::read(settings, service),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// `EVERGREEN_INSTANCE`, or the name of a broker, or else the host and the process.
fn instance(settings: &mut Settings<'_>) -> String {
    let named = settings.text("EVERGREEN_INSTANCE");
    let named = named.or_else(|| settings.text("EVERGREEN_BROKER_NAME"));
    named.unwrap_or_else(|| {
        // systemd's `ProcSubset=pid` hides the first one.
        let host = fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| fs::read_to_string("/etc/hostname"))
            .unwrap_or_default();
        format!("{}:{}", host.trim(), process::id())
    })
}
