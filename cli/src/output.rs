//! The output of commands: tables or JSON on the standard output, messages to people on the standard error.
//!
//! ```ignore
//! const APPS: List = List {
//!     columns: &[
//!         Column::text("NAME", |app| member(app, "name")),
//!         Column::number("INSTALLATIONS", |app| member(app, "installations")),
//!         Column::state("STATE", |app| member(app, "state")),
//!         // Left out on a narrow terminal.
//!         Column::time("SINCE", |app| time(app, "since")).spare(1),
//!     ],
//!     id: |app| member(app, "name"),
//!     empty: "There are no apps yet. GHL_CLIENT_ID and GHL_CLIENT_SECRET name the first one",
//! };
//!
//! // A list, page by page. With `--output json` it is one array, with `--quiet` the ids, one a line.
//! let mut list = output.list(&APPS);
//! list.add(entries(&page))?;
//! list.end()?;
//! // One object. The named members come first, and `--quiet` prints the first of them.
//! output.object(&answer, &["installationId", "tokenStatus"])?;
//! // A text, with the value for `--output json` and the line for `--quiet` ("" for none).
//! output.report(&answer, "install_1", || "It is well.".to_owned())?;
//! // A message to people. `--quiet` omits it.
//! output.note("Keep this key: it is shown only now.");
//! ```
//!
//! Pass on the error of a failed write with `?`. If the reader of a pipe is gone, as with `| head`, it ends the process
//! quietly with 0.
//!
//! Texts of a table or an object may come from GHL or from a customer, so control characters in them never reach the
//! terminal.

mod fields;
mod style;
mod table;
mod text;

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};

use clap::{Args, ValueEnum};
use serde_json::Value;

pub(crate) use style::{Style, paint};
pub(crate) use table::{Column, List, Rows};
pub(crate) use text::{clean, in_words, member, time};

use crate::exit::Failure;

/// The flags of all commands about their output.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct OutputFlags {
    /// How results are printed: json is what the API answers, and a list is one array
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,
    /// Print the essential result alone, such as ids, a key or a link, one a line, and no messages
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Json,
    Quiet,
}

/// Where commands print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    kind: Kind,
    is_quiet: bool,
    /// The columns of the terminal. `None` if the standard output is none.
    width: Option<usize>,
}

impl Output {
    pub(crate) fn new(flags: OutputFlags) -> Self {
        let kind = match (flags.output, flags.quiet) {
            (Format::Json, _) => Kind::Json,
            (Format::Table, true) => Kind::Quiet,
            (Format::Table, false) => Kind::Table,
        };
        Self {
            kind,
            is_quiet: flags.quiet,
            width: terminal_width(),
        }
    }

    /// Whether messages to people are omitted.
    pub(crate) fn is_quiet(self) -> bool {
        self.is_quiet
    }

    /// Whether the result is printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.kind == Kind::Json
    }

    /// Whether the result is printed for people.
    pub(crate) fn is_table(self) -> bool {
        self.kind == Kind::Table
    }

    /// Begins a list. Nothing is printed before its first entries or its end.
    pub(crate) fn list(self, what: &'static List) -> Rows {
        Rows::new(self, what)
    }

    /// Prints one object. The members in `order` come first, in that order. `--quiet` prints the first of them alone.
    pub(crate) fn object(self, value: &Value, order: &[&str]) -> Result<(), Failure> {
        let essential = order.first().map(|first| member(value, first));
        self.report(value, &essential.unwrap_or_default(), || {
            fields::lines(value, order)
        })
    }

    /// Prints `text`, or `value` with `--output json`, or `essential` with `--quiet`, and then nothing if it is empty.
    pub(crate) fn report(
        self,
        value: &Value,
        essential: &str,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.kind {
            Kind::Json => self.line(&format!("{value:#}")),
            Kind::Quiet if essential.is_empty() => Ok(()),
            Kind::Quiet => self.line(essential),
            Kind::Table => self.line(text().trim_end_matches('\n')),
        }
    }

    /// Prints a message to people on the standard error, unless `--quiet`.
    pub(crate) fn note(self, message: impl Display) {
        if !self.is_quiet {
            complain(message);
        }
    }

    /// Prints a line as it is, whatever the format.
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        print(&format!("{line}\n"))
    }
}

/// Prints text on the standard output, as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_to(&mut anstream::stdout().lock(), text)
}

/// Prints a message on the standard error, even with `--quiet`.
pub(crate) fn complain(message: impl Display) {
    // Nobody can be told that the standard error is closed.
    let _ = writeln!(anstream::stderr().lock(), "{message}");
}

/// Prints the beginning of a line on the standard error, and leaves the cursor there.
pub(crate) fn ask(question: &str) {
    let mut to = anstream::stderr().lock();
    let _ = write!(to, "{question} ").and_then(|()| to.flush());
}

fn write_to(to: &mut impl Write, text: &str) -> Result<(), Failure> {
    let written = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Output(error.to_string()),
    })
}

fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stdout())?;
    stdout().is_terminal().then_some(usize::from(width.0))
}

/// Whether the standard error is a terminal, which can show progress.
pub(crate) fn is_watched() -> bool {
    stderr().is_terminal()
}

/// The width of the standard error's terminal.
pub(crate) fn watched_width() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses to be written to, for this reason.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn closed_pipe_is_no_error_and_a_full_disk_is_one() {
        let closed = write_to(&mut Refusing(ErrorKind::BrokenPipe), "x");
        assert!(matches!(closed, Err(Failure::ClosedPipe)), "{closed:?}");
        let full = write_to(&mut Refusing(ErrorKind::StorageFull), "x");
        assert!(matches!(full, Err(Failure::Output(_))), "{full:?}");
        let mut buffer = Vec::new();
        assert!(write_to(&mut buffer, "x\n").is_ok());
        assert_eq!(buffer, b"x\n");
    }

    #[test]
    fn json_is_printed_with_quiet_too() {
        let kind = |output, quiet| Output::new(OutputFlags { output, quiet }).kind;
        assert_eq!(kind(Format::Table, false), Kind::Table);
        assert_eq!(kind(Format::Table, true), Kind::Quiet);
        assert_eq!(kind(Format::Json, false), Kind::Json);
        assert_eq!(kind(Format::Json, true), Kind::Json);
    }
}
