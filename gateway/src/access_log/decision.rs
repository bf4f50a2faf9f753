//! Which requests get a line in the access log.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::metrics::AnsweredBy;

/// A request that takes longer than this gets a line, also if it succeeds.
const SLOW: Duration = Duration::from_secs(5);

/// The requests that get a line (`EVERGREEN_ACCESS_LOG`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// None.
    Off,
    /// Those that failed or were slow.
    Errors,
    /// All.
    All,
}

/// A mode that can change.
#[derive(Debug)]
pub(super) struct AtomicMode(AtomicU8);

impl AtomicMode {
    pub(super) fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(super) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Mode {
        let number = self.0.load(Ordering::Relaxed);
        let modes = [Mode::Off, Mode::Errors, Mode::All];
        let found = modes.into_iter().find(|mode| *mode as u8 == number);
        found.unwrap_or(Mode::Errors)
    }
}

/// The setting is no mode.
#[derive(Debug, thiserror::Error)]
#[error("no such mode")]
pub(crate) struct UnknownMode;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Errors => "errors",
            Self::All => "all",
        })
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "off" => Ok(Self::Off),
            "errors" => Ok(Self::Errors),
            "all" => Ok(Self::All),
            _ => Err(UnknownMode),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) by: AnsweredBy,
    pub(crate) status: StatusCode,
    /// Until the head of the response.
    pub(crate) took: Duration,
}

/// Why a request gets a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A gateway or a broker refused it or failed.
    OwnError,
    /// GHL failed, did not answer, or refused a call by its rate limit.
    GhlError,
    Slow,
    /// All requests get one.
    Other,
}

/// Why a request gets a line. `None` if it gets none.
pub(super) fn decide(mode: Mode, facts: Facts) -> Option<Reason> {
    let reason = reason(facts);
    match mode {
        Mode::Off => None,
        Mode::Errors => (reason != Reason::Other).then_some(reason),
        Mode::All => Some(reason),
    }
}

fn reason(facts: Facts) -> Reason {
    let status = facts.status;
    let failed = match facts.by {
        AnsweredBy::Evergreen if status.is_client_error() || status.is_server_error() => {
            Some(Reason::OwnError)
        }
        // GHL's other 4xx are what a caller asked for.
        AnsweredBy::Ghl if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Some(Reason::GhlError)
        }
        AnsweredBy::Evergreen | AnsweredBy::Ghl => None,
    };
    let slow = (facts.took > SLOW).then_some(Reason::Slow);
    failed.or(slow).unwrap_or(Reason::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(20);

    fn facts(by: AnsweredBy, status: u16, took: Duration) -> Facts {
        let status = StatusCode::from_u16(status).unwrap();
        Facts { by, status, took }
    }

    #[test]
    fn errors_and_slow_requests_get_a_line() {
        use AnsweredBy::{Evergreen, Ghl};
        let late = SLOW + Duration::from_millis(1);
        for (by, status, took, expected) in [
            (Evergreen, 400, FAST, Some(Reason::OwnError)),
            (Evergreen, 401, FAST, Some(Reason::OwnError)),
            (Evergreen, 429, FAST, Some(Reason::OwnError)),
            (Evergreen, 503, late, Some(Reason::OwnError)),
            (Evergreen, 200, FAST, None),
            (Evergreen, 304, FAST, None),
            (Evergreen, 200, late, Some(Reason::Slow)),
            (Ghl, 500, FAST, Some(Reason::GhlError)),
            (Ghl, 504, late, Some(Reason::GhlError)),
            (Ghl, 404, FAST, None),
            (Ghl, 429, FAST, Some(Reason::GhlError)),
            (Ghl, 404, late, Some(Reason::Slow)),
            (Ghl, 200, SLOW, None),
            (Ghl, 200, late, Some(Reason::Slow)),
        ] {
            let facts = facts(by, status, took);
            assert_eq!(decide(Mode::Errors, facts), expected, "{facts:?}");
            let in_all = Some(expected.unwrap_or(Reason::Other));
            assert_eq!(decide(Mode::All, facts), in_all, "{facts:?}");
            assert_eq!(decide(Mode::Off, facts), None, "{facts:?}");
        }
    }
}
