//! The JSON log format: one object for each line.
//!
//! Each line has `timestamp`, `level`, `target`, `instance` and `version`, then the fields of the event, flat. Fields
//! named `error` are objects. The `kind` of such an object is on top.

use std::error::Error;
use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The members that each line has. A field with such a name gets an underscore.
const RESERVED: [&str; 6] = [
    "timestamp",
    "level",
    "target",
    "instance",
    "version",
    "spans",
];

/// The format.
pub(super) struct JsonLine {
    instance: String,
    version: &'static str,
}

impl JsonLine {
    pub(super) fn new(instance: &str, version: &'static str) -> Self {
        Self {
            instance: instance.to_owned(),
            version,
        }
    }

    fn line(
        &self,
        event: &Event<'_>,
        timestamp: &str,
        spans: &[Value],
    ) -> Result<String, serde_json::Error> {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.lift_kind();
        let metadata = event.metadata();
        let mut line = Vec::with_capacity(512);
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", timestamp)?;
        map.serialize_entry("level", metadata.level().as_str())?;
        let target = fields.log_target.as_deref();
        map.serialize_entry("target", target.unwrap_or(metadata.target()))?;
        map.serialize_entry("instance", &self.instance)?;
        map.serialize_entry("version", self.version)?;
        for (name, value) in &fields.all {
            if RESERVED.contains(name) {
                map.serialize_entry(&format!("{name}_"), value)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        if !spans.is_empty() {
            map.serialize_entry("spans", spans)?;
        }
        map.end()?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let scope = context.event_scope();
        let scope = scope.into_iter().flat_map(|scope| scope.from_root());
        let spans: Vec<Value> = scope
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<JsonFields>>();
                span_object(span.name(), fields.map_or("", |it| it.fields.as_str()))
            })
            .collect();
        let line = self.line(event, &timestamp, &spans);
        writeln!(writer, "{}", line.map_err(|_| fmt::Error)?)
    }
}

/// `fields`: the fields of the span as a JSON object, or nothing.
fn span_object(name: &str, fields: &str) -> Value {
    let mut object: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
    object.insert("name".to_owned(), name.into());
    Value::Object(object)
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    all: Vec<(&'static str, Value)>,
    /// Of a line that comes from the `log` crate.
    log_target: Option<String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.all.push((field.name(), value.into()));
    }

    fn put_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "error" => self.put(field, error_object(text)),
            "log.target" => self.log_target = Some(text),
            // The place in the source, of a line that comes from the `log` crate.
            name if name.starts_with("log.") => {}
            _ => self.put(field, text),
        }
    }

    /// Moves the kind of an error to the top.
    fn lift_kind(&mut self) {
        let has_kind = self.all.iter().any(|(name, _)| *name == "kind");
        let error = self.all.iter_mut().find(|(name, _)| *name == "error");
        if let (false, Some((_, Value::Object(error)))) = (has_kind, error)
            && let Some(kind) = error.remove("kind")
        {
            self.all.push(("kind", kind));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut object = Map::new();
        object.insert("message".to_owned(), value.to_string().into());
        let mut chain = Vec::new();
        let mut source = value.source();
        while let Some(cause) = source {
            chain.push(Value::from(cause.to_string()));
            source = cause.source();
        }
        if !chain.is_empty() {
            object.insert("chain".to_owned(), chain.into());
        }
        self.put(field, object);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }
}

/// An error that was logged as text. The text may be an object already.
fn error_object(text: String) -> Value {
    let object = match text.starts_with('{') {
        true => serde_json::from_str(&text).ok(),
        false => None,
    };
    Value::Object(object.unwrap_or_else(|| Map::from_iter([("message".to_owned(), text.into())])))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing::{debug_span, info, warn};

    use super::super::whole_line::tests::Written;
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the store is unreachable")]
    struct Outer(#[source] io::Error);

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(written.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine::new("broker-1", "1.2.3"))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = written.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    #[test]
    fn line_is_one_flat_object() {
        let absent: Option<&str> = None;
        let lines = lines(|| {
            let _entered = debug_span!("refresh", installation = "install_1").entered();
            info!(
                ms = 7,
                good = true,
                absent,
                level = "x",
                key = Some("shop"),
                "do\ne"
            );
        });
        let mut line = lines[0].clone();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(humantime::parse_rfc3339(timestamp.as_str().unwrap()).is_ok());
        let expected = serde_json::json!({
            "level": "INFO", "target": module_path!(), "instance": "broker-1", "version": "1.2.3", "ms": 7,
            "good": true, "level_": "x", "key": "shop", "message": "do\ne",
            "spans": [{ "name": "refresh", "installation": "install_1" }],
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn errors_are_objects_and_their_kind_is_on_top() {
        let outer = Outer(io::Error::other("connection refused"));
        let lines = lines(|| {
            warn!(error = &outer as &dyn Error, "1");
            warn!(error = %outer, "2");
            warn!(
                error = r#"{"kind":"grant_revoked","message":"no","attempt":3}"#,
                "3"
            );
        });
        let message = "the store is unreachable";
        let chain = ["connection refused"];
        let expected = serde_json::json!({ "message": message, "chain": chain });
        assert_eq!(lines[0]["error"], expected);
        assert_eq!(lines[1]["error"], serde_json::json!({ "message": message }));
        assert_eq!(lines[2]["kind"], "grant_revoked");
        let expected = serde_json::json!({ "message": "no", "attempt": 3 });
        assert_eq!(lines[2]["error"], expected);
    }
}
