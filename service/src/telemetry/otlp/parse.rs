//! Parses settings of OpenTelemetry that are more than a word.

use http::{HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Settings;

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The name of the service, and the other attributes of the resource.
pub(super) fn resource(settings: &mut Settings<'_>) -> (Option<String>, Vec<KeyValue>) {
    let name = settings.text("OTEL_SERVICE_NAME");
    let listed = settings.text(ATTRIBUTES).unwrap_or_default();
    let Some(pairs) = pairs(&listed) else {
        settings.mistake(ATTRIBUTES, "must be such as team=crm,region=eu");
        return (name, Vec::new());
    };
    let of_service = |(key, _): &(String, String)| key == "service.name";
    let (named, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(of_service);
    let name = name.or_else(|| named.into_iter().next().map(|(_, value)| value));
    let others = others.into_iter();
    let others = others.map(|(key, value)| KeyValue::new(key, value));
    (name, others.collect())
}

/// The headers that the first of these settings names. Mistakes do not quote them, since they may contain keys.
pub(super) fn headers(settings: &mut Settings<'_>, keys: [&str; 2]) -> Vec<(String, SecretString)> {
    let set = keys
        .into_iter()
        .find_map(|key| Some((key, settings.secret(key)?)));
    let Some((key, listed)) = set else {
        return Vec::new();
    };
    let is_header = |(name, value): &(String, String)| {
        name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
    };
    match pairs(listed.expose_secret()).filter(|all| all.iter().all(is_header)) {
        Some(pairs) => {
            let pairs = pairs.into_iter();
            pairs.map(|(name, value)| (name, value.into())).collect()
        }
        None => {
            settings.mistake(key, "must be headers such as name=value,name=value");
            Vec::new()
        }
    }
}

/// `a=b,c=d`, with values that may be percent-encoded. `None` if it is something else.
fn pairs(listed: &str) -> Option<Vec<(String, String)>> {
    let parts = listed.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    };
    parts.map(pair).collect()
}

/// `None` if it is not set.
pub(super) fn sampler(settings: &mut Settings<'_>) -> Option<Sampler> {
    let ratio = settings.parse(RATIO, 1.0, "a share from 0 to 1 such as 0.1");
    if !(0.0..=1.0).contains(&ratio) {
        settings.mistake(RATIO, "must be from 0 to 1");
    }
    let name = settings.text(SAMPLER)?;
    let sampler = named_sampler(&name, ratio);
    if sampler.is_none() {
        let message = format!(
            "must be always_on, always_off, traceidratio or one of these after parentbased_, but is {name:?}"
        );
        settings.mistake(SAMPLER, message);
    }
    sampler
}

fn named_sampler(name: &str, ratio: f64) -> Option<Sampler> {
    if let Some(of_root) = name.strip_prefix("parentbased_") {
        let of_root = named_sampler(of_root, ratio)?;
        let is_nested = matches!(of_root, Sampler::ParentBased(_));
        return (!is_nested).then(|| Sampler::ParentBased(Box::new(of_root)));
    }
    match name {
        "always_on" => Some(Sampler::AlwaysOn),
        "always_off" => Some(Sampler::AlwaysOff),
        "traceidratio" => Some(Sampler::TraceIdRatioBased(ratio)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{HEADERS, SpanExport, Transport};
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Option<SpanExport>, String> {
        let entries = entries.iter();
        let entries = entries.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let source: HashMap<String, String> = entries.collect();
        let mut settings = Settings::new(&source);
        let read = SpanExport::read(&mut settings, "evergreen-test");
        settings.finish(read).map_err(|error| error.to_string())
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/base/");

    #[test]
    fn endpoint_decides_whether_spans_are_exported() {
        assert!(read(&[]).unwrap().is_none());
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert!(read(&[BASE, off]).unwrap().is_none(), "{off:?}");
        }
        let export = read(&[BASE]).unwrap().unwrap();
        assert_eq!(export.endpoint, "http://collector:4318/base/v1/traces");
        assert_eq!(export.service, "evergreen-test");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other/x");
        let export = read(&[BASE, own]).unwrap().unwrap();
        assert_eq!(export.endpoint, "http://other/x");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let export = read(&[BASE, grpc]).unwrap().unwrap();
        assert_eq!(export.endpoint, "http://collector:4318/base/");
        assert_eq!(export.transport, Transport::Grpc);
    }

    #[test]
    fn service_headers_and_sampler_are_read() {
        let export = read(&[
            BASE,
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, team=crm%20eu"),
            (HEADERS[1], "x-key=a%2Cb"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ]);
        let export = export.unwrap().unwrap();
        assert_eq!(export.service, "a");
        assert_eq!(export.attributes, [KeyValue::new("team", "crm eu")]);
        assert_eq!(export.timeout.as_millis(), 2500);
        let (name, value) = &export.headers[0];
        assert_eq!((name.as_str(), value.expose_secret()), ("x-key", "a,b"));
        let sampler = format!("{:?}", export.sampler);
        assert!(
            sampler.contains("ParentBased") && sampler.contains("0.25"),
            "{sampler}"
        );
        assert!(!format!("{export:?}").contains("a,b"));
    }

    #[test]
    fn mistakes_are_reported_without_the_headers() {
        let mistakes = read(&[
            BASE,
            (HEADERS[0], "s3cret"),
            ("OTEL_TRACES_SAMPLER", "parentbased_parentbased_always_on"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ]);
        let mistakes = mistakes.unwrap_err();
        for key in [
            HEADERS[0],
            "OTEL_TRACES_SAMPLER must",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_TRACES_EXPORTER",
            "OTEL_RESOURCE_ATTRIBUTES",
        ] {
            assert!(mistakes.contains(key), "{key} is not in {mistakes}");
        }
        assert!(!mistakes.contains("s3cret"), "{mistakes}");
    }
}
