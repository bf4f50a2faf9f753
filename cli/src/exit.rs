//! The exit codes of the process, one for each kind of failure. `docs/commands.md` lists them.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use service::config::Mistakes;
pub(crate) use service::error_chain::chain;

/// Why the process ends with an error. clap ends it with 2 if the command line is wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 0: the reader of the standard output has gone, as `| head` does. Nothing is said about it.
    ClosedPipe,
    /// 1: the answer is no. The request was refused, or something is wrong with what was examined.
    Refused(String),
    /// 64: the settings are wrong. Nothing was bound, opened or asked.
    Settings(String),
    /// 69: an address or a file was not available, and the process did not start.
    Unavailable(String),
    /// 69: the server or the store that a command asks does not answer.
    NoAnswer(String),
    /// 70: work was unfinished at the deadline of the shutdown.
    Unfinished,
    /// 74: an error while serving that only a restart can repair. The log has the details.
    Broken,
    /// 74: the result could not be written, such as to a disk that is full.
    Output(String),
    /// 130: Ctrl-C, as shells report it. The text says how to continue.
    Interrupted(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    fn number(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Refused(_) => 1,
            Self::Settings(_) => 64,
            Self::Unavailable(_) | Self::NoAnswer(_) => 69,
            Self::Unfinished => 70,
            Self::Broken | Self::Output(_) => 74,
            Self::Interrupted(_) => 130,
        }
    }

    /// The reason alone, for a process that runs.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Settings(what)
            | Self::Unavailable(what)
            | Self::NoAnswer(what)
            | Self::Refused(what)
            | Self::Interrupted(what) => what.clone(),
            Self::ClosedPipe | Self::Output(_) | Self::Unfinished | Self::Broken => {
                self.to_string()
            }
        }
    }

    /// [`Failure::Unavailable`] with an error and its causes.
    pub(crate) fn unavailable(error: impl Error) -> Self {
        Self::Unavailable(chain(&error))
    }

    pub(crate) fn runtime(error: io::Error) -> Self {
        Self::unavailable(error)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Settings(mistakes.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedPipe => f.write_str("the reader of the output has gone"),
            Self::Settings(mistakes) => write!(
                f,
                "evergreen did not start, because its settings are wrong:\n{mistakes}"
            ),
            Self::Unavailable(what) => write!(f, "evergreen did not start: {what}"),
            Self::Unfinished => {
                f.write_str("stopped with unfinished work: the shutdown timeout has expired")
            }
            Self::Broken => f.write_str("stopped after an error: the log has the details"),
            Self::Output(why) => write!(f, "the output cannot be written: {why}"),
            Self::Refused(why) | Self::NoAnswer(why) | Self::Interrupted(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_scripts_know() {
        let text = String::new;
        let codes = [
            (Failure::ClosedPipe, 0),
            (Failure::Refused(text()), 1),
            (Failure::Settings(text()), 64),
            (Failure::Unavailable(text()), 69),
            (Failure::NoAnswer(text()), 69),
            (Failure::Unfinished, 70),
            (Failure::Broken, 74),
            (Failure::Output(text()), 74),
            (Failure::Interrupted(text()), 130),
        ];
        for (failure, code) in codes {
            assert_eq!(failure.number(), code, "{failure:?}");
        }
    }
}
