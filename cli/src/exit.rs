//! The exit codes of the process, one for each kind of failure.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use service::config::Mistakes;
pub(crate) use service::error_chain::chain;

/// Why the process ends with an error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 64: the settings are wrong. Nothing was bound or opened.
    Settings(String),
    /// 69: an address or a file was not available.
    Unavailable(String),
    /// 70: work was unfinished at the deadline of the shutdown.
    Unfinished,
    /// 74: an error while serving that only a restart can repair. The log has the details.
    Broken,
    /// 1: the request was refused.
    Refused(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Settings(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Unfinished => 70,
            Self::Broken => 74,
            Self::Refused(_) => 1,
        })
    }

    /// The reason alone, for a process that runs.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Settings(what) | Self::Unavailable(what) | Self::Refused(what) => what.clone(),
            Self::Unfinished | Self::Broken => self.to_string(),
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
            Self::Settings(mistakes) => write!(
                f,
                "evergreen did not start, because its settings are wrong:\n{mistakes}"
            ),
            Self::Unavailable(what) => write!(f, "evergreen did not start: {what}"),
            Self::Unfinished => {
                f.write_str("stopped with unfinished work: the shutdown timeout has expired")
            }
            Self::Broken => f.write_str("stopped after an error: the log has the details"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}
