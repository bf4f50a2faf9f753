//! Refreshes: attempts, leases, and GHL's token endpoint.

use std::time::Duration;

use ::store::AppName;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use service::metrics::Buckets;
use store_writer::NotLeased;
use store_writer::writer::Recovered;

use super::store::store_error;
use crate::overview::counts::{self, Count};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::{FailureKind, Outcome};

const REFRESHES: &str = "evergreen_refresh_total";
const DURATION: &str = "evergreen_refresh_duration_seconds";
const IN_FLIGHT: &str = "evergreen_refresh_in_flight";
const CLAIMS: &str = "evergreen_claims_total";
const LEASES: &str = "evergreen_leases_total";
const TAKEOVERS: &str = "evergreen_takeovers_total";
const LOST_RESPONSES: &str = "evergreen_lost_responses_total";
const LATE_ANSWERS: &str = "evergreen_late_answers_total";
const RECOVERED: &str = "evergreen_refresh_recovered_total";
const TOKEN_ENDPOINT_DURATION: &str = "evergreen_token_endpoint_duration_seconds";
const BREAKER: &str = "evergreen_token_endpoint_breaker_open";
/// New tokens that may be in flight at once: see [`crate::refresh::window`].
pub(crate) const WINDOW: &str = "evergreen_refresh_window";
const CONTAINED: &str = "evergreen_refresh_contained";
/// Whether GHL refuses every installation.
const REFUSED_FOR_ALL: &str = "evergreen_refresh_refused_for_all";

/// The buckets of the duration of calls of the token endpoint: from a fast answer to one that comes after a timeout.
pub const TOKEN_ENDPOINT_BUCKETS: Buckets = (
    TOKEN_ENDPOINT_DURATION,
    &[
        0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0,
    ],
);

/// Every value of the label `outcome`. Each series exists before its first event, so that an alert on its
/// increase sees that event.
const OUTCOMES: [&str; 17] = [
    "refreshed",
    "superseded",
    "journaled",
    "unknown_app",
    FailureKind::Transient.as_str(),
    FailureKind::Ambiguous.as_str(),
    FailureKind::UnreadableAnswer.as_str(),
    FailureKind::ForeignAnswer.as_str(),
    FailureKind::Paused.as_str(),
    FailureKind::ClientRejected.as_str(),
    FailureKind::Suspect.as_str(),
    FailureKind::InvalidGrant.as_str(),
    FailureKind::Lost.as_str(),
    FailureKind::StillInvalid.as_str(),
    FailureKind::BadRequest.as_str(),
    FailureKind::ScopeMissing.as_str(),
    FailureKind::NotInstalled.as_str(),
];

/// Likewise, of [`LEASES`].
const LEASE_OUTCOMES: [&str; 5] = [
    "acquired",
    "held",
    "no_quorum",
    "lock_node_refused",
    "expired",
];

pub(super) fn describe() {
    describe_counter!(REFRESHES, "Refresh attempts, by outcome");
    let obstacles = Obstacle::ALL.map(Obstacle::as_str);
    for outcome in OUTCOMES.into_iter().chain(obstacles) {
        counter!(REFRESHES, "outcome" => outcome).absolute(0);
    }
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Duration of a refresh from the lease to the commit"
    );
    describe_gauge!(IN_FLIGHT, "Refresh attempts of this broker in progress");
    gauge!(IN_FLIGHT).set(0.0);
    describe_counter!(CLAIMS, "Due installations that this broker claimed");
    counter!(CLAIMS).absolute(0);
    describe_counter!(
        LEASES,
        "Leases that this broker asked for, by outcome; `expired`: one ended before its attempt did"
    );
    for outcome in LEASE_OUTCOMES {
        counter!(LEASES, "outcome" => outcome).absolute(0);
    }
    describe_counter!(
        TAKEOVERS,
        "Refreshes that another broker had begun and not ended, and that this broker took over"
    );
    counter!(TAKEOVERS).absolute(0);
    describe_counter!(
        LOST_RESPONSES,
        "Calls of the token endpoint without an answer that can be used, after which the token may be spent"
    );
    counter!(LOST_RESPONSES).absolute(0);
    describe_counter!(
        LATE_ANSWERS,
        "Responses of GHL that arrived after the timeout of their attempt"
    );
    counter!(LATE_ANSWERS).absolute(0);
    describe_counter!(
        RECOVERED,
        "Installations that got a token after GHL had refused theirs"
    );
    for from in [Recovered::Suspect, Recovered::Invalid] {
        counter!(RECOVERED, "was" => from.as_str()).absolute(0);
    }
    describe_histogram!(
        TOKEN_ENDPOINT_DURATION,
        Unit::Seconds,
        "Duration of the calls of GHL's token endpoint that got an answer or an error"
    );
    describe_gauge!(
        BREAKER,
        "1 while this broker pauses because GHL refuses its client id and secret"
    );
    describe_gauge!(WINDOW, "New refresh tokens that may be in flight at once");
    describe_gauge!(
        CONTAINED,
        "1 while no new refresh token is spent because the outcome of refreshes at GHL is unknown"
    );
    gauge!(CONTAINED).set(0.0);
    describe_gauge!(
        REFUSED_FOR_ALL,
        "1 while GHL refuses the refresh tokens of all installations in a row"
    );
    gauge!(REFUSED_FOR_ALL).set(0.0);
    for name in [DURATION, TOKEN_ENDPOINT_DURATION] {
        drop(histogram!(name));
    }
}

/// Counts an attempt, and records the duration of a successful one.
pub(crate) fn attempt(outcome: &Outcome, duration: Duration) {
    if let Some(count) = Count::of(outcome) {
        counts::add(count);
    }
    let label = match outcome {
        Outcome::Refreshed { .. } => {
            histogram!(DURATION).record(duration.as_secs_f64());
            "refreshed"
        }
        Outcome::Superseded | Outcome::Adopted => "superseded",
        Outcome::UnknownApp => "unknown_app",
        Outcome::Failed(kind) => kind.as_str(),
        Outcome::Journaled => {
            store_error("refresh");
            "journaled"
        }
        Outcome::Unavailable(obstacle, _) => {
            if obstacle.is_of_store() {
                store_error("refresh");
            }
            obstacle.as_str()
        }
        // Nothing was attempted.
        Outcome::Busy(_)
        | Outcome::RateLimited(_)
        | Outcome::NotDue(_)
        | Outcome::Contained
        | Outcome::NotRefreshable(_)
        | Outcome::UnknownInstallation => return,
    };
    counter!(REFRESHES, "outcome" => label).increment(1);
}

/// Counts an attempt that did not begin.
pub(crate) fn obstructed(obstacle: Obstacle) {
    counts::add(Count::of_obstacle(obstacle));
    counter!(REFRESHES, "outcome" => obstacle.as_str()).increment(1);
}

/// The attempts that are in progress now.
pub(crate) fn in_flight(attempts: usize) {
    gauge!(IN_FLIGHT).set(f64::from(u32::try_from(attempts).unwrap_or(u32::MAX)));
}

/// Counts installations that were claimed at once.
pub(crate) fn claimed(installations: usize) {
    counter!(CLAIMS).increment(installations as u64);
}

/// Counts a lease that was asked for.
pub(crate) fn lease_asked<T>(taken: &Result<T, NotLeased>) {
    let outcome = match taken {
        Ok(_) => "acquired",
        Err(NotLeased::Held) => "held",
        Err(NotLeased::Unreachable { .. }) => "no_quorum",
        Err(NotLeased::Misconfigured(_)) => "lock_node_refused",
    };
    counter!(LEASES, "outcome" => outcome).increment(1);
}

/// Counts a lease that ended before its attempt did. It was counted before, too.
pub(crate) fn lease_expired() {
    counter!(LEASES, "outcome" => "expired").increment(1);
}

pub(crate) fn taken_over() {
    counter!(TAKEOVERS).increment(1);
}

pub(crate) fn lost_response() {
    counter!(LOST_RESPONSES).increment(1);
}

/// A call of the token endpoint has ended, with any answer or with none.
pub(crate) fn token_endpoint_answered(took: Duration) {
    histogram!(TOKEN_ENDPOINT_DURATION).record(took.as_secs_f64());
}

pub(crate) fn refused_for_all(is_refusing_all: bool) {
    gauge!(REFUSED_FOR_ALL).set(if is_refusing_all { 1.0 } else { 0.0 });
}

pub(crate) fn containment(is_contained: bool) {
    gauge!(CONTAINED).set(if is_contained { 1.0 } else { 0.0 });
}

pub(crate) fn late_answer() {
    counter!(LATE_ANSWERS).increment(1);
}

pub(crate) fn recovered(from: Recovered) {
    counter!(RECOVERED, "was" => from.as_str()).increment(1);
}

/// An app that is gone from the settings raises no alarm.
pub(crate) fn app_is_gone(app: &AppName) {
    breaker(app, false);
}

pub(crate) fn breaker(app: &AppName, is_open: bool) {
    gauge!(BREAKER, "app" => app.to_string()).set(if is_open { 1.0 } else { 0.0 });
}
