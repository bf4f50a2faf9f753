//! The outcomes of a refresh, and the classification of failures as pure functions.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::time::Duration;

use ghl::Failure;
use http::StatusCode;
use store::{Generation, Status, Timestamp};
use store_writer::installation::{LastError, RefusalCount};
use store_writer::protocol::{AttemptFailure, FailureClass, REFUSALS_TO_INVALID};

use crate::refresh::obstacle::Obstacle;

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// GHL granted a token and the store has it.
    Refreshed { generation: Generation },
    /// Another attempt was faster.
    Superseded,
    /// Not due before this time: another attempt was faster, or a failed one is backing off.
    NotDue(Timestamp),
    /// Another attempt is in progress. Retry after this long.
    Busy(Duration),
    /// GHL's limit of the agency allows the mint after this time.
    RateLimited(Duration),
    /// The attempt failed. The schedule retries it.
    Failed(FailureKind),
    /// An alternate token replaced a refused one. Retry at once.
    Adopted,
    /// GHL granted a token that is in the journal but not yet in the store.
    Journaled,
    /// Nothing was sent, because the token is new and an outage forbids to spend new tokens.
    Contained,
    /// The installation has no refresh token to spend.
    NotRefreshable(Status),
    /// This broker does not have the credentials of the installation's app.
    UnknownApp,
    /// The store does not know the installation.
    UnknownInstallation,
    /// Nothing was sent, or nothing stored, for this reason.
    Unavailable(Obstacle, String),
}

/// The classes of failure, for metrics, logs and operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// GHL is unreachable or overloaded.
    Transient,
    /// The request was sent and no response came.
    Ambiguous,
    /// GHL granted a token, but the response cannot be read.
    UnreadableAnswer,
    /// GHL responded with the token of another installation.
    ForeignAnswer,
    /// The location is not active at GHL.
    Paused,
    /// GHL refused the client credentials.
    ClientRejected,
    /// GHL refused the token for the first or second time, perhaps wrongly.
    Suspect,
    /// GHL refused the token three times. The customer must connect again.
    InvalidGrant,
    /// As `InvalidGrant`, after a response was lost. The successor was lost with it.
    Lost,
    /// GHL also refused a later retry for an invalid installation.
    StillInvalid,
    /// GHL did not understand the request.
    BadRequest,
    /// The agency of the location has not granted the scope that tokens of locations need.
    ScopeMissing,
    /// GHL gives the agency no token for the location: the app is not installed there.
    NotInstalled,
}

impl FailureKind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Transient,
        Self::Ambiguous,
        Self::UnreadableAnswer,
        Self::ForeignAnswer,
        Self::Paused,
        Self::ClientRejected,
        Self::Suspect,
        Self::InvalidGrant,
        Self::Lost,
        Self::StillInvalid,
        Self::BadRequest,
        Self::ScopeMissing,
        Self::NotInstalled,
    ];

    /// The kind with this label.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == label)
    }

    /// The label in metrics, logs and the record.
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
            Self::ScopeMissing => "scope_missing",
            Self::NotInstalled => "not_installed",
        }
    }

    /// Whether an operator must act. The log line then has the tag `[REFRESH-FAIL]`.
    #[must_use]
    pub(crate) fn needs_operator(self) -> bool {
        self.remedy().is_some()
    }

    /// The operator's next step.
    #[must_use]
    pub(crate) const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Transient
            | Self::Ambiguous
            | Self::UnreadableAnswer
            | Self::Paused
            | Self::Suspect
            | Self::NotInstalled
            | Self::StillInvalid => None,
            Self::ScopeMissing => Some(
                "add oauth.write and oauth.readonly to GHL_SCOPES and to the app at GHL, and let the agency \
                 connect again at /oauth/install",
            ),
            Self::ForeignAnswer => Some(
                "report it to GHL: it answered this installation with the token of another one, which is \
                 not used. If this persists, let the customer connect again at /oauth/install",
            ),
            Self::ClientRejected => Some(
                "if this broker refreshes no installation, correct its GHL_CLIENT_ID and \
                 GHL_CLIENT_SECRET; if it refreshes others, let this customer connect again at \
                 /oauth/install",
            ),
            Self::InvalidGrant | Self::Lost => {
                Some("let the customer connect again at /oauth/install")
            }
            Self::BadRequest => Some(
                "if this persists, check GHL_API_URL, the redirect URI, and whether GHL's edge blocks \
                 this host",
            ),
        }
    }
}

/// The facts about an attempt when it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// Failures in a row before this one.
    pub failures: u32,
    /// Whether the token may have been spent by an earlier attempt.
    pub is_retry: bool,
    /// How long GHL still replays its response to that attempt. Zero if there was none.
    pub grace_left: Duration,
    /// When the attempt began, by the store's clock.
    pub at: Timestamp,
    /// In 0..=1. Spreads retries.
    pub jitter: f64,
    /// How often in a row GHL rejected the client credentials for this installation while it accepted
    /// them for others. See [`crate::refresh::breaker::Breaker::refused_alone`].
    pub refused_alone: u32,
    /// Earlier refusals of this token.
    pub refused: Option<&'a RefusalCount>,
    /// Whether an outage forbids to spend new tokens.
    pub is_outage: bool,
    /// Whether GHL refuses every installation.
    pub is_refusing_all: bool,
    /// Whether the access token is still valid.
    pub is_serving: bool,
}

/// The fate of the token that was sent, after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenFate {
    /// It may be spent.
    Unknown,
    /// GHL has decided about it.
    Decided,
    /// It was not sent, or GHL did not consider it.
    NotConsidered,
}

/// The fate of the token that was sent, after `failure`.
#[must_use]
pub(crate) fn token_fate(failure: &Failure) -> TokenFate {
    match failure {
        Failure::Lost(_) | Failure::Unreadable { .. } | Failure::Foreign { .. } => {
            TokenFate::Unknown
        }
        Failure::Unavailable { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
            TokenFate::NotConsidered
        }
        Failure::Unavailable { .. } => TokenFate::Unknown,
        Failure::LocationInactive | Failure::InvalidGrant(_) => TokenFate::Decided,
        Failure::NotSent(_) | Failure::ClientRejected(_) | Failure::BadRequest { .. } => {
            TokenFate::NotConsidered
        }
    }
}

/// Classifies a failure: its kind, what becomes of the installation, and when to retry.
#[must_use]
pub(crate) fn classify(failure: &Failure, attempt: Attempt<'_>) -> (FailureKind, AttemptFailure) {
    let (kind, refusal, retry_in) = match failure {
        Failure::NotSent(_) => (
            FailureKind::Transient,
            FailureClass::Unspent,
            backoff(attempt),
        ),
        Failure::Lost(_) => (
            FailureKind::Ambiguous,
            FailureClass::Unknown,
            retry_in_grace(attempt),
        ),
        // The token may be spent, and GHL's next response may be readable.
        Failure::Unreadable { .. } => (
            FailureKind::UnreadableAnswer,
            FailureClass::Unknown,
            retry_in_grace(attempt),
        ),
        Failure::Foreign { .. } => (
            FailureKind::ForeignAnswer,
            FailureClass::Unknown,
            retry_in_grace(attempt),
        ),
        Failure::Unavailable {
            status,
            retry_after,
        } => {
            let wait = retry_after.map_or(Duration::ZERO, |wait| wait.min(MAX_BACKOFF));
            // A failing server may have spent the token first. An overloaded one (429) has not.
            let refusal = if *status == StatusCode::TOO_MANY_REQUESTS {
                FailureClass::Unspent
            } else {
                FailureClass::Unknown
            };
            // One retry must fall inside GHL's grace period, in case the token is spent.
            let wait = match refusal {
                FailureClass::Unknown if attempt.failures < 2 => wait.min(MAX_EARLY_RETRY_AFTER),
                FailureClass::Unknown
                | FailureClass::Unspent
                | FailureClass::Paused
                | FailureClass::Refused
                | FailureClass::WidespreadRefusal => wait,
            };
            (FailureKind::Transient, refusal, backoff(attempt).max(wait))
        }
        Failure::LocationInactive => (
            FailureKind::Paused,
            FailureClass::Paused,
            inactive_pause(attempt),
        ),
        Failure::ClientRejected(_) if attempt.refused_alone >= MAX_REJECTIONS_ALONE => {
            (refusal_kind(attempt), FailureClass::Refused, Duration::ZERO)
        }
        Failure::ClientRejected(_) => (
            FailureKind::ClientRejected,
            FailureClass::Unspent,
            backoff(attempt),
        ),
        // GHL refuses every installation, so this refusal is probably wrong.
        Failure::InvalidGrant(_) if is_doubtful(attempt) => (
            FailureKind::Suspect,
            FailureClass::WidespreadRefusal,
            Duration::ZERO,
        ),
        Failure::InvalidGrant(_) => (refusal_kind(attempt), FailureClass::Refused, Duration::ZERO),
        Failure::BadRequest { .. } => (
            FailureKind::BadRequest,
            FailureClass::Unspent,
            backoff(attempt),
        ),
    };
    let retry_in = match refusal {
        // Request the lost response again before the grace period ends, even if this failure asks for a longer pause.
        FailureClass::Unspent | FailureClass::Unknown if !attempt.grace_left.is_zero() => {
            retry_in.min(attempt.grace_left / 3).min(MAX_RETRY_IN_GRACE)
        }
        // Unresolved installations find out when GHL has recovered.
        FailureClass::Unknown if attempt.is_outage => retry_in.min(RETRY_IN_OUTAGE),
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
                | FailureKind::BadRequest
                | FailureKind::ScopeMissing
                | FailureKind::NotInstalled => 0,
            },
            ..LastError::new(kind.as_str(), describe(failure), attempt.at)
        },
        retry_in,
        late_reader: None,
    };
    (kind, verdict)
}

/// Whether a refusal is probably wrong and waiting costs nothing. An installation that is already invalid
/// stays invalid.
fn is_doubtful(attempt: Attempt<'_>) -> bool {
    let times = attempt.refused.map_or(0, |refused| refused.times);
    attempt.is_refusing_all && attempt.is_serving && times < REFUSALS_TO_INVALID
}

/// The kind of failure after one more refusal.
fn refusal_kind(attempt: Attempt<'_>) -> FailureKind {
    let times = attempt.refused.map_or(0, |refused| refused.times) + 1;
    let is_lost = attempt.is_retry
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

/// A caller may be waiting with an expired token, and the rate limit bounds all retries together.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest wait before a lost response is requested again inside the grace period. The store, the lock
/// nodes or GHL may be unavailable for most of that period.
const MAX_RETRY_IN_GRACE: Duration = Duration::from_secs(2);
/// The retry interval for unresolved installations during an outage.
const RETRY_IN_OUTAGE: Duration = Duration::from_secs(10);
/// The longest `Retry-After` that the first two retries respect: later ones fall outside the grace period.
const MAX_EARLY_RETRY_AFTER: Duration = Duration::from_secs(8);
/// After this many rejections of the client credentials for one installation alone, the installation
/// counts as revoked. This takes about a minute.
const MAX_REJECTIONS_ALONE: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(15 * 60);
const MAX_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// 1, 2, 4 … 60 s, each with up to 25 % jitter.
fn backoff(attempt: Attempt<'_>) -> Duration {
    let base = Duration::from_secs(1) * 2_u32.pow(attempt.failures.min(9));
    spread(base.min(MAX_BACKOFF), attempt.jitter)
}

/// Retries of the same token inside GHL's grace period of 30 s: at once, then every few seconds.
fn retry_in_grace(attempt: Attempt<'_>) -> Duration {
    match attempt.failures {
        0 => Duration::from_millis(100),
        1..=6 => spread(Duration::from_secs(1) * attempt.failures, attempt.jitter),
        _ => backoff(attempt),
    }
}

/// Retries for a location that is not active at GHL: after 15 min, 30 min … 6 h.
fn inactive_pause(attempt: Attempt<'_>) -> Duration {
    let base = FIRST_PAUSE * 2_u32.pow(attempt.failures.min(5));
    spread(base.min(MAX_PAUSE), attempt.jitter)
}

fn spread(base: Duration, jitter: f64) -> Duration {
    base + base.mul_f64(jitter / 4.0)
}

/// The failure and its causes in one line.
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
