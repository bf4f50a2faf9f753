//! What came of a refresh, and what is done about a failure: pure decisions.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::time::Duration;

use ghl::Failure;
use http::StatusCode;
use store::{Generation, Status, Timestamp};
use store_writer::installation::{LastError, RefusalCount};
use store_writer::protocol::{AttemptFailure, FailureClass, REFUSALS_TO_INVALID};

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refreshed {
        generation: Generation,
    },
    /// Somebody else was faster.
    Superseded,
    /// It is not due before then: somebody else was faster, or a failed attempt is backing off.
    NotDue(Timestamp),
    /// Somebody else is at it; worth another look after this long.
    Busy(Duration),
    /// Will be tried again by the schedule.
    Failed(FailureKind),
    /// A refused token was replaced by one that had been kept: try again at once.
    Adopted,
    /// GHL granted a token that the store has not taken yet: it is in the journal.
    Journaled,
    /// In an outage at GHL no new token is spent, and this one is new. Nothing was sent.
    Held,
    /// There is nothing to refresh with.
    NotRefreshable(Status),
    Unknown,
    /// The store, the lock nodes or the journal are away; nothing was sent.
    Unavailable(String),
}

/// The classes of failure, for metrics, logs and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// GHL is away or overloaded.
    Transient,
    /// Sent, and no answer.
    Ambiguous,
    /// GHL granted something that cannot be read.
    UnreadableAnswer,
    /// GHL answered with somebody else's token.
    ForeignAnswer,
    /// The location is not active at GHL.
    Paused,
    /// Our client id and secret were refused.
    ClientRejected,
    /// GHL refused the token for the first or second time: perhaps wrongly.
    Suspect,
    /// GHL refused the token again and again: the customer must connect again.
    InvalidGrant,
    /// As above, after an answer was lost: the successor is gone with it.
    Lost,
    /// A quiet try of an invalid installation was refused, too.
    StillInvalid,
    /// GHL did not understand us.
    BadRequest,
}

impl FailureKind {
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Ambiguous => "ambiguous",
            Self::UnreadableAnswer => "unreadable_answer",
            Self::ForeignAnswer => "foreign_answer",
            Self::Paused => "paused",
            Self::ClientRejected => "client_rejected",
            Self::Suspect => "suspect",
            Self::InvalidGrant => "invalid_grant",
            Self::Lost => "lost",
            Self::StillInvalid => "still_invalid",
            Self::BadRequest => "bad_request",
        }
    }

    /// Whether a person must do something, so that the line in the log says FAIL.
    #[must_use]
    pub(crate) fn needs_a_person(self) -> bool {
        self.remedy().is_some()
    }

    /// What a person must do.
    #[must_use]
    pub(crate) const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Transient
            | Self::Ambiguous
            | Self::UnreadableAnswer
            | Self::Paused
            | Self::Suspect
            | Self::StillInvalid => None,
            Self::ForeignAnswer => Some(
                "report it to GHL: it answered this installation with another one's token, which is \
                 not used. If it stays so, let the customer connect again at /oauth/install",
            ),
            Self::ClientRejected => Some(
                "if this broker refreshes nobody, put its GHL_CLIENT_ID and GHL_CLIENT_SECRET right; \
                 if it refreshes others, let this customer connect again at /oauth/install",
            ),
            Self::InvalidGrant | Self::Lost => {
                Some("let the customer connect again at /oauth/install")
            }
            Self::BadRequest => Some(
                "if it stays so, check GHL_API_URL, the redirect URI, and whether GHL's edge blocks \
                 this host",
            ),
        }
    }
}

/// What an attempt knows when it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// Failures in a row before this one.
    pub failures: u32,
    /// Whether the token may have been spent by an earlier attempt.
    pub is_repeat: bool,
    /// For how long GHL still repeats its answer to that one; zero where there is none.
    pub grace_left: Duration,
    pub at: Timestamp,
    /// In 0..=1: spreads retries.
    pub jitter: f64,
    /// How often in a row, if GHL refuses the client pair now, it did so for this installation while
    /// others were refreshed with it.
    pub refused_alone: u32,
    /// What GHL refused before of this token.
    pub refused: Option<&'a RefusalCount>,
    /// No new token is spent, and those in doubt tell when GHL is well again.
    pub is_outage: bool,
    /// GHL refuses whoever asks.
    pub refuses_all: bool,
    /// The access token is good.
    pub is_serving: bool,
}

/// What a failure tells of the token that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be spent.
    Unknown,
    /// It is as GHL says.
    Answered,
    /// Nothing came of it: it was not sent, or GHL did not look at it.
    NotAsked,
}

/// What a failure tells of the token that was sent.
#[must_use]
pub(crate) fn fate(failure: &Failure) -> Fate {
    match failure {
        Failure::Lost(_) | Failure::Unreadable { .. } | Failure::Foreign { .. } => Fate::Unknown,
        Failure::Unavailable { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
            Fate::NotAsked
        }
        Failure::Unavailable { .. } => Fate::Unknown,
        Failure::LocationInactive | Failure::InvalidGrant(_) => Fate::Answered,
        Failure::NotSent(_) | Failure::ClientRejected(_) | Failure::BadRequest { .. } => {
            Fate::NotAsked
        }
    }
}

/// Decides what a failure means for the installation, and when to try again.
#[must_use]
pub(crate) fn judge(failure: &Failure, attempt: Attempt<'_>) -> (FailureKind, AttemptFailure) {
    let (kind, refusal, retry_in) = match failure {
        Failure::NotSent(_) => (
            FailureKind::Transient,
            FailureClass::Unspent,
            backoff(attempt),
        ),
        Failure::Lost(_) => (
            FailureKind::Ambiguous,
            FailureClass::Unknown,
            repeat(attempt),
        ),
        // The token may be spent, and GHL's next answer may be better.
        Failure::Unreadable { .. } => (
            FailureKind::UnreadableAnswer,
            FailureClass::Unknown,
            repeat(attempt),
        ),
        Failure::Foreign { .. } => (
            FailureKind::ForeignAnswer,
            FailureClass::Unknown,
            repeat(attempt),
        ),
        Failure::Unavailable {
            status,
            retry_after,
        } => {
            let wait = retry_after.map_or(Duration::ZERO, |wait| wait.min(LONGEST_BACKOFF));
            // A server that failed may have spent the token first; one that is overloaded said no.
            let refusal = if *status == StatusCode::TOO_MANY_REQUESTS {
                FailureClass::Unspent
            } else {
                FailureClass::Unknown
            };
            // One repeat belongs inside GHL's grace, in case the token is spent.
            let wait = match refusal {
                FailureClass::Unknown if attempt.failures < 2 => wait.min(INSIDE_GRACE),
                FailureClass::Unknown
                | FailureClass::Unspent
                | FailureClass::Paused
                | FailureClass::Refused
                | FailureClass::WidespreadRefusal => wait,
            };
            (FailureKind::Transient, refusal, backoff(attempt).max(wait))
        }
        Failure::LocationInactive => (FailureKind::Paused, FailureClass::Paused, pause(attempt)),
        Failure::ClientRejected(_) if attempt.refused_alone >= PATIENCE_WITH_PAIR => {
            (refused(attempt), FailureClass::Refused, Duration::ZERO)
        }
        Failure::ClientRejected(_) => (
            FailureKind::ClientRejected,
            FailureClass::Unspent,
            backoff(attempt),
        ),
        // GHL refuses everybody: this refusal is probably wrong.
        Failure::InvalidGrant(_) if is_doubtful(attempt) => (
            FailureKind::Suspect,
            FailureClass::WidespreadRefusal,
            Duration::ZERO,
        ),
        Failure::InvalidGrant(_) => (refused(attempt), FailureClass::Refused, Duration::ZERO),
        Failure::BadRequest { .. } => (
            FailureKind::BadRequest,
            FailureClass::Unspent,
            backoff(attempt),
        ),
    };
    let retry_in = match refusal {
        // The answer is asked for again before GHL forgets it, whatever it says now.
        FailureClass::Unspent | FailureClass::Unknown if !attempt.grace_left.is_zero() => {
            retry_in.min(attempt.grace_left / 3).min(IN_DOUBT)
        }
        // Whoever is in doubt finds out when GHL is well again.
        FailureClass::Unknown if attempt.is_outage => retry_in.min(IN_OUTAGE),
        FailureClass::Unspent
        | FailureClass::Unknown
        | FailureClass::Paused
        | FailureClass::Refused
        | FailureClass::WidespreadRefusal => retry_in,
    };
    let verdict = AttemptFailure {
        class: refusal,
        error: LastError {
            refused_alone: match kind {
                FailureKind::ClientRejected => attempt.refused_alone,
                FailureKind::Transient
                | FailureKind::Ambiguous
                | FailureKind::UnreadableAnswer
                | FailureKind::ForeignAnswer
                | FailureKind::Paused
                | FailureKind::Suspect
                | FailureKind::InvalidGrant
                | FailureKind::Lost
                | FailureKind::StillInvalid
                | FailureKind::BadRequest => 0,
            },
            ..LastError::new(kind.as_str(), describe(failure), attempt.at)
        },
        retry_in,
        late_reader: None,
    };
    (kind, verdict)
}

/// Whether a refusal is likely to be wrong, and nothing is lost by waiting: whoever is invalid already
/// stays so.
fn is_doubtful(attempt: Attempt<'_>) -> bool {
    let times = attempt.refused.map_or(0, |refused| refused.times);
    attempt.refuses_all && attempt.is_serving && times < REFUSALS_TO_INVALID
}

/// What one more refusal makes of an installation.
fn refused(attempt: Attempt<'_>) -> FailureKind {
    let times = attempt.refused.map_or(0, |refused| refused.times) + 1;
    let is_lost = attempt.is_repeat
        || attempt
            .refused
            .is_some_and(|refused| refused.after_lost_answer);
    match times.cmp(&REFUSALS_TO_INVALID) {
        Ordering::Less => FailureKind::Suspect,
        Ordering::Equal if is_lost => FailureKind::Lost,
        Ordering::Equal => FailureKind::InvalidGrant,
        Ordering::Greater => FailureKind::StillInvalid,
    }
}

/// A caller may be waiting with an expired token, and the rate budget bounds all of them together.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How long a token whose answer was lost waits for its next try at most: the store, the lock nodes or
/// GHL may be away for most of the grace.
const IN_DOUBT: Duration = Duration::from_secs(2);
/// How often it is asked for in an outage.
const IN_OUTAGE: Duration = Duration::from_secs(10);
const INSIDE_GRACE: Duration = Duration::from_secs(8);
/// How often one installation is refused for the client pair, while others are not, until it
/// counts as revoked: about a minute.
const PATIENCE_WITH_PAIR: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(15 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// 1, 2, 4 … 60 s, each up to a quarter longer.
fn backoff(attempt: Attempt<'_>) -> Duration {
    let base = Duration::from_secs(1) * 2_u32.pow(attempt.failures.min(9));
    spread(base.min(LONGEST_BACKOFF), attempt.jitter)
}

/// The same token again, inside GHL's grace of 30 s: at once, then every few seconds.
fn repeat(attempt: Attempt<'_>) -> Duration {
    match attempt.failures {
        0 => Duration::from_millis(100),
        1..=6 => spread(Duration::from_secs(1) * attempt.failures, attempt.jitter),
        _ => backoff(attempt),
    }
}

/// 15 min, 30 min … 6 h.
fn pause(attempt: Attempt<'_>) -> Duration {
    let base = FIRST_PAUSE * 2_u32.pow(attempt.failures.min(5));
    spread(base.min(LONGEST_PAUSE), attempt.jitter)
}

fn spread(base: Duration, jitter: f64) -> Duration {
    base + base.mul_f64(jitter / 4.0)
}

/// The failure and what caused it, in one line.
fn describe(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
