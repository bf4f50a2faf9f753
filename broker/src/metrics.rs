//! The broker's metrics. All of their names are in this file.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use service::shutdown::Shutdown;
use store::AppName;
use store_writer::check::{Finding, Reason, Severity};
use store_writer::lock_nodes::Health;
use store_writer::writer::Recovered;
use store_writer::{LockNodes, WriteError};
use tokio::time::sleep;

use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::{FailureKind, Outcome};
use crate::refresh::worker::Worker;

const REFRESHES: &str = "evergreen_refresh_total";
/// Tokens of agencies' locations.
const MINTS: &str = "evergreen_mints_total";
const DURATION: &str = "evergreen_refresh_duration_seconds";
const NEAREST_EXPIRY: &str = "evergreen_nearest_expiry_seconds";
const DELIVERIES: &str = "evergreen_deliveries_total";
const UNCLAIMED: &str = "evergreen_unclaimed_installations";
const INSTALLATIONS: &str = "evergreen_installations";
/// New tokens that may be in flight at once: see [`crate::refresh::window`].
pub(crate) const WINDOW: &str = "evergreen_refresh_window";
const CONTAINED: &str = "evergreen_refresh_contained";
/// Whether GHL refuses every installation.
const REFUSED_FOR_ALL: &str = "evergreen_refresh_refused_for_all";
const LATE_ANSWERS: &str = "evergreen_late_answers_total";
const RECOVERED: &str = "evergreen_refresh_recovered_total";
const BREAKER: &str = "evergreen_token_endpoint_breaker_open";
const STORE_ERRORS: &str = "evergreen_store_errors_total";
const ESCROW_MISSED: &str = "evergreen_escrow_missed_total";
const RESTORED: &str = "evergreen_restored_answers_total";
const FILE_READY: &str = "evergreen_file_ready";
const STORE_UNSAFE: &str = "evergreen_store_unsafe";
const STORE_DEGRADED: &str = "evergreen_store_degraded";
const LOCK_NODES: &str = "evergreen_lock_nodes";
const AUDIT_LOST: &str = "evergreen_audit_lost_total";

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

/// Likewise, of [`MINTS`].
const MINT_OUTCOMES: [&str; 12] = [
    "ok",
    "no_agency",
    "rate_limited",
    "store",
    "foreign_answer",
    "unavailable",
    "rate_limited_by_ghl",
    "token_refused",
    "scope_missing",
    "not_installed",
    "location_inactive",
    "unreadable_answer",
];

/// Registers every metric with its description and its initial value.
pub(crate) fn describe() {
    describe_counter!(REFRESHES, "Refresh attempts, by outcome");
    describe_counter!(
        MINTS,
        "Tokens of agencies' locations that GHL was asked for, by outcome"
    );
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Duration of a refresh from the lease to the commit"
    );
    describe_counter!(
        DELIVERIES,
        "Attempts to deliver events and webhooks to an endpoint, by outcome; `dead`: a message was given up; \
         `dropped`: a message was not kept since too many wait"
    );
    describe_gauge!(
        UNCLAIMED,
        "Installations that are due for more than two minutes, of an app that this broker does not know"
    );
    describe_gauge!(
        NEAREST_EXPIRY,
        Unit::Seconds,
        "Time until the first live access token expires; 0 if one has expired"
    );
    describe_gauge!(
        INSTALLATIONS,
        "Installations, by whether their tokens are refreshed"
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
    describe_gauge!(
        REFUSED_FOR_ALL,
        "1 while GHL refuses the refresh tokens of all installations in a row"
    );
    describe_counter!(
        LATE_ANSWERS,
        "Responses of GHL that arrived after the timeout of their attempt"
    );
    describe_counter!(
        RECOVERED,
        "Installations that got a token after GHL had refused theirs"
    );
    counter!(LATE_ANSWERS).absolute(0);
    for from in [Recovered::Suspect, Recovered::Invalid] {
        counter!(RECOVERED, "was" => from.as_str()).absolute(0);
    }
    gauge!(CONTAINED).set(0.0);
    gauge!(REFUSED_FOR_ALL).set(0.0);
    describe_counter!(STORE_ERRORS, "Failed requests to the store, by operation");
    describe_counter!(
        ESCROW_MISSED,
        "Responses of GHL that no majority of the lock nodes took into escrow"
    );
    describe_counter!(
        RESTORED,
        "Tokens that the store had confirmed and lost, and that this broker restored"
    );
    describe_gauge!(
        STORE_UNSAFE,
        "1 while the store would lose tokens for this reason"
    );
    describe_gauge!(
        STORE_DEGRADED,
        "1 while the store could be safer in this respect"
    );
    store_findings(&[]);
    describe_gauge!(
        FILE_READY,
        "1 while the file can take another response of GHL"
    );
    describe_gauge!(LOCK_NODES, "Lock nodes, by state");
    describe_counter!(
        AUDIT_LOST,
        "Entries of the audit log that were not written, by where they are missing"
    );
    for place in ["file", "store"] {
        counter!(AUDIT_LOST, "place" => place).absolute(0);
    }
    counter!(ESCROW_MISSED).absolute(0);
    counter!(RESTORED).absolute(0);
    for state in Health::STATES {
        gauge!(LOCK_NODES, "state" => state).set(0.0);
    }
    let obstacles = Obstacle::ALL.map(Obstacle::as_str);
    for outcome in OUTCOMES.into_iter().chain(obstacles) {
        counter!(REFRESHES, "outcome" => outcome).absolute(0);
    }
    for outcome in MINT_OUTCOMES {
        counter!(MINTS, "outcome" => outcome).absolute(0);
    }
    for operation in ["schedule", "refresh"] {
        counter!(STORE_ERRORS, "operation" => operation).absolute(0);
    }
}

/// Counts an attempt, and records the duration of a successful one.
pub(crate) fn attempt(outcome: &Outcome, duration: Duration) {
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
    counter!(REFRESHES, "outcome" => obstacle.as_str()).increment(1);
}

/// Counts a token of a location that was asked for.
pub(crate) fn minted(outcome: &'static str) {
    counter!(MINTS, "outcome" => outcome).increment(1);
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

pub(crate) fn store_error(operation: &'static str) {
    counter!(STORE_ERRORS, "operation" => operation).increment(1);
}

/// Sets the gauges for the findings of the last check of the store.
pub(crate) fn store_findings(findings: &[Finding]) {
    for reason in Reason::ALL {
        for (name, severity) in [
            (STORE_UNSAFE, Severity::Unsafe),
            (STORE_DEGRADED, Severity::Degraded),
        ] {
            let is_found = findings
                .iter()
                .any(|finding| (finding.reason, finding.severity) == (reason, severity));
            gauge!(name, "reason" => reason.as_str()).set(if is_found { 1.0 } else { 0.0 });
        }
    }
}

pub(crate) fn file_ready(file: &'static str, is_ready: bool) {
    gauge!(FILE_READY, "file" => file).set(if is_ready { 1.0 } else { 0.0 });
}

/// An attempt to deliver a message, or its end.
pub(crate) fn delivered(endpoint: &str, outcome: &'static str) {
    counter!(DELIVERIES, "endpoint" => endpoint.to_owned(), "outcome" => outcome).increment(1);
}

/// Messages for an endpoint that were not stored.
pub(crate) fn dropped(endpoint: &str, messages: u64) {
    counter!(DELIVERIES, "endpoint" => endpoint.to_owned(), "outcome" => "dropped")
        .increment(messages);
}

pub(crate) fn escrow_missed() {
    counter!(ESCROW_MISSED).increment(1);
}

pub(crate) fn audit_lost(place: &'static str, entries: usize) {
    counter!(AUDIT_LOST, "place" => place).increment(entries as u64);
}

pub(crate) fn restored() {
    counter!(RESTORED).increment(1);
}

/// Reports the state of the lock nodes every second until shutdown.
pub(crate) async fn watch_lock_nodes(nodes: LockNodes, shutdown: Shutdown) {
    loop {
        let health = nodes.health();
        for state in Health::STATES {
            let count = health.iter().filter(|(_, node)| node.as_str() == state);
            let count = u32::try_from(count.count()).unwrap_or(u32::MAX);
            gauge!(LOCK_NODES, "state" => state).set(f64::from(count));
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// How long an installation is due before its app counts as known to nobody.
const UNCLAIMED_AFTER: Duration = Duration::from_secs(120);

/// Reports the installations that are due, and that no broker refreshes, of apps that this broker does not know.
async fn count_unclaimed(worker: &Worker) -> Result<(), WriteError> {
    let known = worker.apps.current();
    let since = worker.reader.now() - UNCLAIMED_AFTER;
    for app in &known.apps {
        gauge!(UNCLAIMED, "app" => app.name.to_string()).set(0.0);
    }
    let others = worker.writer.apps().await?.into_iter();
    for app in others.filter(|app| known.named(app).is_none()) {
        let due = worker.writer.count_due(&app, since).await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "far fewer than 2^52 installations"
        )]
        gauge!(UNCLAIMED, "app" => app.to_string()).set(due as f64);
    }
    Ok(())
}

/// Reports the number of installations and the nearest expiry every 15 s until shutdown.
pub(crate) async fn watch_installations(worker: Arc<Worker>, shutdown: Shutdown) {
    let writer = &worker.writer;
    loop {
        // Without the store, the last count stays.
        let _ = count_unclaimed(&worker).await;
        if let Ok(stock) = writer.stats().await {
            let dead = stock.installations.saturating_sub(stock.refreshing);
            #[expect(
                clippy::cast_precision_loss,
                reason = "far fewer than 2^52 installations"
            )]
            {
                gauge!(INSTALLATIONS, "refreshing" => "yes").set(stock.refreshing as f64);
                gauge!(INSTALLATIONS, "refreshing" => "no").set(dead as f64);
            }
            // Without a token, report infinity instead of a gap in the series.
            let nearest = stock
                .nearest_expiry
                .map_or(f64::INFINITY, |left| left.as_secs_f64());
            gauge!(NEAREST_EXPIRY).set(nearest);
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(Duration::from_secs(15)) => {}
        }
    }
}
