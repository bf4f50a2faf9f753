//! Events whose message is a whole log line.
//!
//! Operators grep for some lines verbatim, and programs need the same facts as fields. An event whose target is
//! [`WHOLE_LINE`] is written as only its message in text logs, and with all its fields in JSON logs.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of such events.
pub const WHOLE_LINE: &str = "evergreen::line";

/// The usual text format, except for whole lines.
pub(super) struct Text(pub(super) Format<Full, SystemTime>);

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != WHOLE_LINE {
            return self.0.format_event(context, writer, event);
        }
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {:>5} ", event.metadata().level())?;
        let mut message = Message(writer, Ok(()));
        event.record(&mut message);
        let Message(mut writer, written) = message;
        written?;
        writeln!(writer)
    }
}

struct Message<'a>(Writer<'a>, fmt::Result);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.1 = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn whole_line_event_is_printed_as_its_message_alone() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(written.clone())
            .event_format(Text(Format::default()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: WHOLE_LINE, hours = 23.9, "[REFRESH] done");
            tracing::info!(hours = 23.9, "other");
        });
        let text = written.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("  INFO [REFRESH] done"), "{text}");
        assert!(lines[1].ends_with("other hours=23.9"), "{text}");
    }
}
