//! The export of spans to a collector, by OTLP over HTTP or gRPC (`OTEL_*`).
//!
//! The settings are read as all others, also from the settings file. The SDK itself reads the limits of batches and of
//! spans (`OTEL_BSP_*`, `OTEL_SPAN_*`), from the environment alone.

mod parse;

use std::collections::HashMap;
use std::env;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use secrecy::{ExposeSecret, SecretString};

use crate::config::Settings;
use crate::tls::Authorities;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// The setting for traces, and the one for all signals.
const HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
const PROTOCOL: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const TIMEOUT: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];
const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// Where spans are sent, and which of them.
#[derive(Clone, Debug)]
pub struct SpanExport {
    /// The whole URL for HTTP, the base for gRPC.
    endpoint: String,
    transport: Transport,
    /// They may contain the key of a vendor.
    headers: Vec<(String, SecretString)>,
    timeout: Duration,
    /// `None`: all, but those of callers who do not sample theirs.
    sampler: Option<Sampler>,
    service: String,
    attributes: Vec<KeyValue>,
    authorities: Authorities,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Http,
    Grpc,
}

impl SpanExport {
    /// `None` if spans are not exported. Mistakes are collected in `settings`.
    pub(super) fn read(settings: &mut Settings<'_>, service: &str) -> Option<Self> {
        let is_disabled = settings.parse("OTEL_SDK_DISABLED", false, "true or false");
        let is_none = match settings.text("OTEL_TRACES_EXPORTER").as_deref() {
            Some("none") => true,
            None | Some("otlp") => false,
            Some(other) => {
                let message = format!("must be otlp or none, but is {other:?}");
                settings.mistake("OTEL_TRACES_EXPORTER", message);
                true
            }
        };
        let transport = transport(settings);
        let for_traces = settings.url_optional(TRACES_ENDPOINT).map(String::from);
        let base = settings.url_optional(ENDPOINT);
        let of_base = base.map(|base| match transport {
            Transport::Http => format!("{}/v1/traces", base.as_str().trim_end_matches('/')),
            Transport::Grpc => base.into(),
        });
        let sampler = parse::sampler(settings);
        let (name, attributes) = parse::resource(settings);
        let headers = parse::headers(settings, HEADERS);
        let timeout = TIMEOUT.iter().find_map(|key| {
            settings.parse_optional::<u64>(key, "a number of milliseconds such as 10000")
        });
        let endpoint = for_traces.or(of_base)?;
        (!is_disabled && !is_none).then(|| Self {
            endpoint,
            transport,
            headers,
            timeout: Duration::from_millis(timeout.unwrap_or(DEFAULT_TIMEOUT_MS)),
            sampler,
            service: name.unwrap_or_else(|| service.to_owned()),
            attributes,
            authorities: Authorities::read(settings),
        })
    }

    /// Spans are sent in batches by a thread of the SDK. For gRPC it must be called within a runtime.
    pub(super) fn provider(
        &self,
        instance: &str,
        version: &'static str,
    ) -> Result<SdkTracerProvider, ExporterBuildError> {
        let exporter = match self.transport {
            Transport::Http => self.over_http()?,
            Transport::Grpc => self.over_grpc()?,
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(self.resource(instance, version))
            .with_batch_exporter(exporter);
        let provider = match &self.sampler {
            Some(sampler) => provider.with_sampler(sampler.clone()),
            None => provider,
        };
        Ok(provider.build())
    }

    fn over_http(&self) -> Result<SpanExporter, ExporterBuildError> {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
        SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&self.endpoint)
            .with_timeout(self.timeout)
            .with_headers(HashMap::from_iter(headers))
            .build()
    }

    fn over_grpc(&self) -> Result<SpanExporter, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&self.endpoint)
            .with_timeout(self.timeout)
            .with_metadata(MetadataMap::from_headers(self.metadata()));
        let exporter = match self.endpoint.starts_with("https:") {
            true => exporter.with_tls_config(self.tls()),
            false => exporter,
        };
        exporter.build()
    }

    /// The SDK adds those of the environment, also to the same ones.
    fn metadata(&self) -> HeaderMap {
        if HEADERS.iter().any(|key| env::var_os(key).is_some()) {
            return HeaderMap::new();
        }
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let (name, value) = (name.parse().ok()?, value.expose_secret().parse().ok()?);
            Some((name, value))
        });
        headers.collect()
    }

    fn tls(&self) -> ClientTlsConfig {
        let tls = ClientTlsConfig::new().with_enabled_roots();
        match self.authorities.pem() {
            [] => tls,
            pem => tls.ca_certificate(Certificate::from_pem(pem)),
        }
    }

    fn resource(&self, instance: &str, version: &'static str) -> Resource {
        let own = [
            KeyValue::new("service.version", version),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ];
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(own)
            .with_attributes(self.attributes.iter().cloned())
            .with_service_name(self.service.clone())
            .build()
    }
}

fn transport(settings: &mut Settings<'_>) -> Transport {
    let named = PROTOCOL
        .iter()
        .find_map(|key| Some((*key, settings.text(key)?)));
    let Some((key, name)) = named else {
        return Transport::Http;
    };
    match name.as_str() {
        "http/protobuf" => Transport::Http,
        "grpc" => Transport::Grpc,
        other => {
            let message = format!("must be http/protobuf or grpc, but is {other:?}");
            settings.mistake(key, message);
            Transport::Http
        }
    }
}
