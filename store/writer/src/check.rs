//! Whether the store keeps what is written to it, judged by what its servers report.
//!
//! A store that evicts keys or writes nothing to a disk loses tokens without an error. The servers' settings
//! show this in advance.

mod clock;
mod facts;
mod finding;

pub use clock::ClockHistory;
pub use facts::{ClockReading, Config, Facts, Info};
pub use finding::{Finding, Reason, Severity};

use crate::error::WriteError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not prove that it accepts writes.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The user may not run scripts.
    #[error("the store's user may not run scripts")]
    NoScripts(#[source] BoxError),
    /// The server refuses writes.
    #[error("the store refuses writes")]
    NoWrites(#[source] BoxError),
    /// The value was written and could not be read back.
    #[error("the store does not return what was written to it")]
    ValueLost,
    /// The store is unreachable.
    #[error(transparent)]
    Unavailable(WriteError),
}

impl ProbeError {
    /// The finding that follows; `None` if the store is unreachable, which is no property of the store.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let (reason, text) = match self {
            Self::NoScripts(error) => (
                Reason::Scripts,
                format!(
                    "the store's user may not run scripts: {error}; grant it +eval and +evalsha, as \
                     in deploy/users.acl"
                ),
            ),
            Self::NoWrites(error) => (Reason::Writes, format!("the store refuses writes: {error}")),
            Self::ValueLost => (Reason::Writes, self.to_string()),
            Self::Unavailable(_) => return None,
        };
        Some(Finding {
            reason,
            severity: Severity::Unsafe,
            text,
        })
    }
}

/// The findings that follow from the reports of all servers. A pure function.
#[must_use]
pub fn evaluate(facts: &[Facts]) -> Vec<Finding> {
    facts.iter().flat_map(evaluate_server).collect()
}

fn evaluate_server(facts: &Facts) -> Vec<Finding> {
    let Some(info) = &facts.info else {
        let text = format!(
            "{} does not tell whether it evicts keys and keeps them on a disk: give the store's \
             user +info and +config|get, as in deploy/users.acl",
            facts.server
        );
        return vec![Finding {
            reason: Reason::Persistence,
            severity: Severity::Degraded,
            text,
        }];
    };
    let findings = [
        eviction(info),
        persistence(info, facts.config.as_ref()),
        replicas(info, facts.replicas_wanted),
    ];
    let findings = findings.into_iter().flatten();
    findings
        .map(|finding| Finding {
            text: format!("{} {}", facts.server, finding.text),
            ..finding
        })
        .collect()
}

fn eviction(info: &Info) -> Option<Finding> {
    let policy = info.policy.as_deref().filter(|it| *it != "noeviction")?;
    let fix = "set `maxmemory-policy noeviction` in redis.conf";
    // Without a memory limit nothing is evicted, but a limit may be set at any time.
    let (severity, text) = if info.maxmemory == Some(0) {
        let text = format!("would evict keys (maxmemory-policy {policy}) once maxmemory is set");
        (Severity::Degraded, text)
    } else {
        let text = format!("evicts keys when its memory is full (maxmemory-policy {policy})");
        (Severity::Unsafe, text)
    };
    Some(Finding {
        reason: Reason::Eviction,
        severity,
        text: format!("{text}: {fix}"),
    })
}

fn persistence(info: &Info, config: Option<&Config>) -> Option<Finding> {
    let finding = |severity, text: &str| {
        Some(Finding {
            reason: Reason::Persistence,
            severity,
            text: text.to_owned(),
        })
    };
    let is_logged = info.aof?;
    if !is_logged {
        return match config.and_then(|config| config.save.as_deref()) {
            Some("") => finding(
                Severity::Unsafe,
                "keeps nothing on a disk (appendonly no, save \"\"): set `appendonly yes` and \
                 `appendfsync always` in redis.conf",
            ),
            Some(_) => finding(
                Severity::Degraded,
                "loses what it wrote since its last snapshot when it crashes (appendonly no): set \
                 `appendonly yes` and `appendfsync always` in redis.conf",
            ),
            None => finding(
                Severity::Degraded,
                "has appendonly no, and does not tell whether it saves snapshots: set `appendonly \
                 yes` and `appendfsync always` in redis.conf",
            ),
        };
    }
    let Some(config) = config else {
        return finding(
            Severity::Degraded,
            "does not tell whether its log is synced at once: give the store's user +config|get, as \
             in deploy/users.acl",
        );
    };
    match config.fsync.as_deref() {
        Some("always") if config.pauses_fsync => finding(
            Severity::Degraded,
            "does not sync while it rewrites its log: set `no-appendfsync-on-rewrite no` in \
             redis.conf",
        ),
        Some("always") | None => None,
        Some("everysec") => finding(
            Severity::Degraded,
            "loses its last second when its host crashes (appendfsync everysec): set `appendfsync \
             always` in redis.conf",
        ),
        Some(_) => finding(
            Severity::Degraded,
            "leaves it to the kernel when its log is written (appendfsync no): set `appendfsync \
             always` in redis.conf",
        ),
    }
}

fn replicas(info: &Info, wanted: usize) -> Option<Finding> {
    let there = info.replicas?;
    (there < wanted).then(|| Finding {
        reason: Reason::Replicas,
        severity: Severity::Degraded,
        text: format!(
            "has {there} of the {wanted} replicas that EVERGREEN_REDIS_REPLICAS asks for: nothing \
             is refreshed until they are back"
        ),
    })
}

#[cfg(test)]
mod tests;
