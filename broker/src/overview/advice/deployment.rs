//! Problems of the processes, the store, the lock nodes and the sealing keys.

use super::{Advice, Found, Severity};
use crate::overview::Overview;
use crate::overview::presence::Kind;

pub(super) fn processes(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    for reason in &facts.not_ready {
        found.add(
            Severity::Critical,
            "not_ready",
            format!("The broker {} is not ready: {}", facts.broker, reason.message),
            (
                "This broker refreshes nothing. If no other broker does, calls fail when access tokens expire.",
                "Do what the reason says. It ends by itself once the reason is gone.",
                "docs/runbooks/EvergreenBrokerNotReady.md",
            ),
        );
    }
    let running = facts.processes.iter().flatten();
    let has_gateway = running.clone().any(|it| it.kind == Kind::Gateway);
    if facts.processes.is_some() && facts.store.kind == "redis" && !has_gateway {
        found.add(
            Severity::Warning,
            "no_gateway",
            "No gateway has reported to a broker within the last minute".to_owned(),
            (
                "If there is none, no call of a customer is served.",
                "Start a gateway. If one runs, check its EVERGREEN_BROKER_URL and its EVERGREEN_ACCESS_KEYS.",
                "docs/runbooks/EvergreenNoGateway.md",
            ),
        );
    }
    let versions: std::collections::BTreeSet<&str> =
        running.map(|it| it.version.as_str()).collect();
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        found.add(
            Severity::Note,
            "versions",
            format!("Processes of several versions run: {}", versions.join(", ")),
            (
                "None while you update. New features may not work yet.",
                "End the update.",
                "docs/upgrade.md",
            ),
        );
    }
    if !facts.unknown.is_empty() {
        found.add(
            Severity::Warning,
            "unknown",
            format!("Some facts could not be learned in time: {}", facts.unknown.join(", ")),
            (
                "Problems may be missing here.",
                "Check that the store answers, and that its user has the rights of deploy/users.acl.",
                "docs/runbooks/EvergreenStoreUnavailable.md",
            ),
        );
    }
    found.0
}

pub(super) fn store(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    for finding in facts.store.findings.iter().flatten() {
        match (finding.is_unsafe, finding.reason) {
            (true, _) => found.add(
                Severity::Critical,
                "store_unsafe",
                format!("The store may lose tokens: {}", finding.text),
                (
                    "Customers whose tokens are lost have to consent again.",
                    "Change the setting of the store that the finding names.",
                    "docs/runbooks/EvergreenStoreUnsafe.md",
                ),
            ),
            (false, "clock") => found.add(
                Severity::Warning,
                "clock",
                format!("The clocks differ: {}", finding.text),
                (
                    "Times in lists and logs are wrong. Tokens are not affected.",
                    "Let all machines follow a time server.",
                    "docs/operations.md#clock",
                ),
            ),
            (false, _) => found.add(
                Severity::Warning,
                "store_degraded",
                format!("The store could be safer: {}", finding.text),
                (
                    "None while nothing fails.",
                    "Change the setting of the store that the finding names.",
                    "docs/runbooks/EvergreenStoreUnsafe.md",
                ),
            ),
        }
    }
    found.0
}

pub(super) fn lock_nodes(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    let Some(locks) = &facts.lock_nodes else {
        return found.0;
    };
    let bad: Vec<String> = locks
        .nodes
        .iter()
        .filter(|node| !node.usable)
        .map(|node| format!("{} ({})", node.address, node.state))
        .collect();
    let usable = locks.nodes.len() - bad.len();
    if usable < locks.needed {
        found.add(
            Severity::Critical,
            "lock_nodes_lost",
            format!(
                "{usable} of {} lock nodes can be used, and {} are needed: {}",
                locks.nodes.len(),
                locks.needed,
                bad.join(", ")
            ),
            (
                "No token is refreshed, so calls fail when access tokens expire.",
                "Start the lock nodes, or correct EVERGREEN_LOCK_URLS.",
                "docs/runbooks/EvergreenLockQuorumLost.md",
            ),
        );
    } else if !bad.is_empty() {
        found.add(
            Severity::Warning,
            "lock_nodes_away",
            format!("Some lock nodes cannot be used: {}", bad.join(", ")),
            (
                "None. If more fail, no token is refreshed.",
                "Start them, or correct EVERGREEN_LOCK_URLS.",
                "docs/runbooks/EvergreenLockNodeSick.md",
            ),
        );
    }
    found.0
}

pub(super) fn housekeeping(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    for key in facts.removable_sealing_keys.iter().flatten() {
        found.add(
            Severity::Note,
            "removable_key",
            format!(
                "No record needs the sealing key {} of {} any more",
                key.id, key.setting
            ),
            (
                "None.",
                "Remove it from all processes, and forget it with `evergreen seal forget`.",
                "docs/rotate-keys.md",
            ),
        );
    }
    found.0
}
