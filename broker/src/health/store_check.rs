//! Checks at start and every minute that the store keeps everything that is written to it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use service::readiness::Gate;
use service::shutdown::Shutdown;
use store_writer::StoreWriter;
use store_writer::check::{ClockHistory, Finding, Reason, Severity};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::metrics;
use crate::overview::statistics::Statistics;

const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The interval while the store is unsafe or unreachable, because an operator may be repairing it.
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);

/// The reaction to an unsafe store (`EVERGREEN_STORE_CHECK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreCheck {
    /// No process starts over an unsafe store, and `/readyz` is 503 while the store is unsafe.
    #[default]
    Enforce,
    /// Only the log and the metrics report it.
    Warn,
}

/// The setting is neither `enforce` nor `warn`.
#[derive(Debug, thiserror::Error)]
#[error("neither enforce nor warn")]
pub struct UnknownStoreCheck;

impl fmt::Display for StoreCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        })
    }
}

impl FromStr for StoreCheck {
    type Err = UnknownStoreCheck;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "warn" => Ok(Self::Warn),
            _ => Err(UnknownStoreCheck),
        }
    }
}

/// The store may lose tokens. Holds the findings that say why.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store is not safe for tokens: {}; or set EVERGREEN_STORE_CHECK=warn to accept the loss of \
     tokens",
    join(.0)
)]
pub struct UnsafeStore(Vec<Finding>);

impl StoreCheck {
    /// Refuses a store that evicts keys or keeps nothing on a disk. An unreachable store is not refused: it
    /// is checked as soon as it is reachable.
    ///
    /// # Errors
    /// The findings that the operator has to correct.
    pub async fn at_start(self, writer: &StoreWriter) -> Result<(), UnsafeStore> {
        let Self::Enforce = self else { return Ok(()) };
        let findings = writer.check_store(&mut ClockHistory::default()).await;
        let mut findings = findings.unwrap_or_default();
        findings.retain(|finding| {
            finding.severity == Severity::Unsafe && finding.reason.forbids_start()
        });
        if findings.is_empty() {
            Ok(())
        } else {
            Err(UnsafeStore(findings))
        }
    }
}

/// Runs until shutdown.
pub(crate) async fn run(
    check: StoreCheck,
    writer: StoreWriter,
    statistics: Arc<Statistics>,
    gate: Gate,
    shutdown: Shutdown,
) {
    if check == StoreCheck::Warn {
        gate.open();
    }
    let (mut clocks, mut known) = (ClockHistory::default(), Known::new());
    loop {
        let wait = match writer.check_store(&mut clocks).await {
            Ok(findings) => {
                log_changes(&known, &findings);
                metrics::store_findings(&findings);
                statistics.checked(&findings);
                known = by_reason(&findings);
                let is_unsafe = is_unsafe(&findings);
                match check {
                    StoreCheck::Enforce if is_unsafe => gate.close(join(&findings)),
                    StoreCheck::Enforce | StoreCheck::Warn => gate.open(),
                }
                if is_unsafe {
                    REPAIR_INTERVAL
                } else {
                    CHECK_INTERVAL
                }
            }
            // The scheduler logs that the store is unreachable.
            Err(_) => REPAIR_INTERVAL,
        };
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

/// A reason and its severity.
type Kind = (Reason, Severity);

/// The findings of the last check, with their text.
type Known = BTreeMap<Kind, String>;

fn by_reason(findings: &[Finding]) -> Known {
    let mut known = Known::new();
    for finding in findings {
        let text = known.entry((finding.reason, finding.severity));
        text.or_insert_with(|| finding.text.clone());
    }
    known
}

/// The findings that are new, and those that have ended.
fn compare(known: &Known, found: &Known) -> (Vec<Kind>, Vec<Kind>) {
    let only_in = |these: &Known, those: &Known| {
        let all = these.keys().filter(|key| !those.contains_key(key));
        all.copied().collect()
    };
    (only_in(found, known), only_in(known, found))
}

/// Logs one line when a finding begins and one when it ends.
fn log_changes(known: &Known, findings: &[Finding]) {
    let found = by_reason(findings);
    let (begun, ended) = compare(known, &found);
    for key in begun {
        let (reason, detail) = (key.0.as_str(), &found[&key]);
        match key.1 {
            Severity::Unsafe => error!(reason, %detail, "the store is unsafe: tokens may be lost"),
            Severity::Degraded => warn!(reason, %detail, "the store could be safer"),
        }
    }
    for (reason, severity) in ended {
        let reason = reason.as_str();
        match severity {
            Severity::Unsafe => info!(reason, "the store is safe again"),
            Severity::Degraded => info!(reason, "the store is fully safe again"),
        }
    }
}

fn is_unsafe(findings: &[Finding]) -> bool {
    let mut findings = findings.iter();
    findings.any(|finding| finding.severity == Severity::Unsafe)
}

/// The unsafe findings in one line.
fn join(findings: &[Finding]) -> String {
    let texts: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Unsafe)
        .map(|finding| finding.text.as_str())
        .collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(reason: Reason, severity: Severity, text: &str) -> Finding {
        let text = text.to_owned();
        Finding {
            reason,
            severity,
            text,
        }
    }

    #[test]
    fn finding_is_logged_once_when_it_begins_and_once_when_it_ends() {
        let (evicts, clock) = (
            finding(Reason::Eviction, Severity::Unsafe, "a evicts"),
            finding(Reason::Clock, Severity::Degraded, "a is 301 s apart"),
        );
        let first = by_reason(&[evicts.clone(), clock.clone()]);
        assert_eq!(compare(&Known::new(), &first).0.len(), 2);
        // The text may change from one check to the next.
        let later = finding(Reason::Clock, Severity::Degraded, "a is 302 s apart");
        let second = by_reason(&[evicts.clone(), later]);
        assert_eq!(compare(&first, &second), (vec![], vec![]));
        let third = by_reason(&[clock]);
        let ended = vec![(Reason::Eviction, Severity::Unsafe)];
        assert_eq!(compare(&second, &third), (vec![], ended));
    }

    #[test]
    fn only_unsafe_findings_close_the_readiness_gate() {
        let findings = [
            finding(Reason::Persistence, Severity::Degraded, "everysec"),
            finding(Reason::Eviction, Severity::Unsafe, "a evicts"),
            finding(Reason::Eviction, Severity::Unsafe, "b evicts"),
        ];
        assert!(!is_unsafe(&findings[..1]) && is_unsafe(&findings));
        assert_eq!(join(&findings), "a evicts; b evicts");
    }
}
