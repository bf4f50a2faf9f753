//! The broker's metrics: all of them are named here.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use service::shutdown::Shutdown;
use store_writer::check::{Finding, Reason, Severity};
use store_writer::lock_nodes::Health;
use store_writer::writer::Recovered;
use store_writer::{LockNodes, StoreWriter};
use tokio::time::sleep;

use crate::outcome::{FailureKind, Outcome};

const REFRESHES: &str = "evergreen_refresh_total";
const DURATION: &str = "evergreen_refresh_duration_seconds";
const NEAREST_EXPIRY: &str = "evergreen_nearest_expiry_seconds";
const INSTALLATIONS: &str = "evergreen_installations";
/// New tokens that may be in flight at once: see [`crate::window`].
pub(crate) const WINDOW: &str = "evergreen_refresh_window";
const CONTAINED: &str = "evergreen_refresh_contained";
/// Whether GHL refuses whoever asks.
const REFUSES_ALL: &str = "evergreen_refresh_refused_for_all";
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

/// Every value of the label `outcome`, so that each series exists before its first event and an
/// alert on its increase sees that one.
const OUTCOMES: [&str; 13] = [
    "refreshed",
    "superseded",
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
];

pub(crate) fn describe() {
    describe_counter!(REFRESHES, "Attempts to refresh, by what came of them");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "From the lease to the commit of a refresh"
    );
    describe_gauge!(
        NEAREST_EXPIRY,
        Unit::Seconds,
        "Until the first live access token expires; 0: one has"
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
        "1 while no new refresh token is spent because GHL leaves open whether it spends them"
    );
    describe_gauge!(
        REFUSES_ALL,
        "1 while GHL refuses the refresh tokens of everybody in a row"
    );
    describe_counter!(
        LATE_ANSWERS,
        "Answers of GHL that came after the broker had stopped to wait"
    );
    describe_counter!(
        RECOVERED,
        "Installations that have a token again after GHL had refused theirs"
    );
    counter!(LATE_ANSWERS).absolute(0);
    for from in [Recovered::Suspect, Recovered::Invalid] {
        counter!(RECOVERED, "was" => from.as_str()).absolute(0);
    }
    gauge!(CONTAINED).set(0.0);
    gauge!(REFUSES_ALL).set(0.0);
    describe_counter!(
        STORE_ERRORS,
        "Times the store gave no answer, by what was asked"
    );
    describe_counter!(
        ESCROW_MISSED,
        "Answers of GHL that no majority of the lock nodes took into escrow"
    );
    describe_counter!(
        RESTORED,
        "Tokens that the store had confirmed and lost, and that this broker wrote again"
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
        "1 while the file can take another answer of GHL"
    );
    describe_gauge!(LOCK_NODES, "Lock nodes, by how they are");
    counter!(ESCROW_MISSED).absolute(0);
    counter!(RESTORED).absolute(0);
    for state in Health::STATES {
        gauge!(LOCK_NODES, "state" => state).set(0.0);
    }
    for outcome in OUTCOMES {
        counter!(REFRESHES, "outcome" => outcome).absolute(0);
    }
    for operation in ["schedule", "refresh"] {
        counter!(STORE_ERRORS, "operation" => operation).absolute(0);
    }
    gauge!(BREAKER).set(0.0);
}

pub(crate) fn record(outcome: &Outcome, took: Duration) {
    let label = match outcome {
        Outcome::Refreshed { .. } => {
            histogram!(DURATION).record(took.as_secs_f64());
            "refreshed"
        }
        Outcome::Superseded | Outcome::Adopted => "superseded",
        Outcome::Failed(kind) => kind.as_str(),
        Outcome::Journaled | Outcome::Unavailable(_) => {
            store_error("refresh");
            return;
        }
        // Nothing was attempted.
        Outcome::Busy(_)
        | Outcome::NotDue(_)
        | Outcome::Held
        | Outcome::NotRefreshable(_)
        | Outcome::Unknown => return,
    };
    counter!(REFRESHES, "outcome" => label).increment(1);
}

pub(crate) fn refuses_all(refuses_all: bool) {
    gauge!(REFUSES_ALL).set(if refuses_all { 1.0 } else { 0.0 });
}

pub(crate) fn contained(is_contained: bool) {
    gauge!(CONTAINED).set(if is_contained { 1.0 } else { 0.0 });
}

pub(crate) fn late_answer() {
    counter!(LATE_ANSWERS).increment(1);
}

pub(crate) fn recovered(from: Recovered) {
    counter!(RECOVERED, "was" => from.as_str()).increment(1);
}

pub(crate) fn breaker(is_open: bool) {
    gauge!(BREAKER).set(if is_open { 1.0 } else { 0.0 });
}

pub(crate) fn store_error(operation: &'static str) {
    counter!(STORE_ERRORS, "operation" => operation).increment(1);
}

/// Shows what the last check of the store found.
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

pub(crate) fn escrow_missed() {
    counter!(ESCROW_MISSED).increment(1);
}

pub(crate) fn restored() {
    counter!(RESTORED).increment(1);
}

/// Shows how the lock nodes are, until shutdown.
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

/// Looks at the whole stock now and then, until shutdown.
pub(crate) async fn watch_stock(writer: StoreWriter, shutdown: Shutdown) {
    loop {
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
            // Without any token there is none that expires: far away says so without a gap.
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
