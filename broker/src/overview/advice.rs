//! Says what is wrong, the worst first, and what to do about it. A pure function of the facts.

#[cfg(test)]
mod tests;

use serde::Serialize;
use utoipa::ToSchema;

use super::Overview;
use super::presence::Kind;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AdviceSeverity)]
pub(crate) enum Severity {
    /// Calls fail, or installations are lost, now or soon.
    Critical,
    /// Something does not work that should.
    Warning,
    /// It could be better.
    Note,
}

impl Severity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// The class of the stylesheet.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Critical => "bad",
            Self::Warning => "warn",
            Self::Note => "",
        }
    }
}

/// A problem, what it means, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Advice {
    pub(crate) severity: Severity,
    /// The kind of problem in one word, the same in every version.
    #[schema(value_type = String)]
    pub(crate) kind: &'static str,
    /// What is wrong.
    pub(crate) problem: String,
    /// What it means for customers.
    #[schema(value_type = String)]
    pub(crate) effect: &'static str,
    /// What to do.
    #[schema(value_type = String)]
    pub(crate) to_do: &'static str,
    /// The page of the manual that has more.
    #[schema(value_type = String)]
    pub(crate) page: &'static str,
}

/// The last hour, in buckets.
const HOUR: usize = 12;
/// The fewest calls of an hour that a share is made of.
const FEWEST_CALLS: u64 = 20;
/// An installation that has been due for longer was not refreshed in time.
const LATE_SECONDS: u64 = 300;

/// Every problem that the facts show, the worst first.
pub(crate) fn advise(facts: &Overview) -> Vec<Advice> {
    let rules: [fn(&Overview) -> Vec<Advice>; 10] = [
        processes,
        ghl,
        store,
        lock_nodes,
        installations,
        refreshes,
        calls,
        connecting,
        events,
        housekeeping,
    ];
    let mut advice: Vec<Advice> = rules.iter().flat_map(|rule| rule(facts)).collect();
    // Stable, so that problems of one severity stay in the order of the rules.
    advice.sort_by_key(|it| it.severity);
    advice
}

/// Builds a list of problems.
#[derive(Default)]
struct Found(Vec<Advice>);

impl Found {
    fn add(
        &mut self,
        severity: Severity,
        kind: &'static str,
        problem: String,
        (effect, to_do, page): (&'static str, &'static str, &'static str),
    ) {
        self.0.push(Advice {
            severity,
            kind,
            problem,
            effect,
            to_do,
            page,
        });
    }
}

/// `1 installation`, `2 installations`.
fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

fn processes(facts: &Overview) -> Vec<Advice> {
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

fn ghl(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    for app in facts.ghl.apps.iter().filter(|it| it.credentials_rejected) {
        found.add(
            Severity::Critical,
            "credentials_rejected",
            format!("GHL refuses the client id and secret of the app {}", app.name),
            (
                "No token of this app is refreshed, so its calls fail within a day. No customer is lost.",
                "Compare GHL_CLIENT_ID and GHL_CLIENT_SECRET, or those of the app's section, with the app's page in the \
                 marketplace.",
                "docs/runbooks/EvergreenClientCredentialsRejected.md",
            ),
        );
    }
    if facts.ghl.refuses_all {
        found.add(
            Severity::Critical,
            "refused_for_all",
            "GHL refuses the refresh tokens of all installations in a row".to_owned(),
            (
                "Calls fail when access tokens expire. evergreen ends no installation meanwhile.",
                "Check that the client id is that of the app that the customers installed, and ask GHL.",
                "docs/runbooks/EvergreenRefreshRefusedForAll.md",
            ),
        );
    }
    if facts.ghl.outage {
        found.add(
            Severity::Critical,
            "outage",
            "GHL's token endpoint does not answer, so no new refresh token is spent".to_owned(),
            (
                "Calls work until their access tokens expire.",
                "Look at GHL's status page, and whether this machine reaches GHL. Refreshes go on by themselves.",
                "docs/runbooks/EvergreenTokenEndpointOutage.md",
            ),
        );
    }
    for app in &facts.ghl.apps {
        if let Some(pause) = app.pause.filter(|_| !app.credentials_rejected) {
            found.add(
                Severity::Warning,
                "refreshes_pause",
                format!("Refreshes of the app {} pause: {pause}", app.name),
                (
                    "None yet: tokens are refreshed long before they expire.",
                    "Wait. If it persists, lower EVERGREEN_REFRESH_RATE.",
                    "docs/runbooks/EvergreenRefreshErrors.md",
                ),
            );
        }
    }
    found.0
}

fn store(facts: &Overview) -> Vec<Advice> {
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

fn lock_nodes(facts: &Overview) -> Vec<Advice> {
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

fn installations(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    let states = facts.installations.as_ref();
    let states = states.and_then(|it| it.by_state.as_ref());
    let of = |state| {
        states
            .and_then(|it| it.get(state).copied())
            .unwrap_or_default()
    };
    let (invalid, unreadable, suspect) = (of("invalid"), of("unreadable"), of("suspect"));
    if unreadable > 0 {
        found.add(
            Severity::Critical,
            "unreadable",
            format!(
                "The records of {} cannot be read",
                count(unreadable, "installation")
            ),
            (
                "Calls of these customers fail.",
                "Give all processes the sealing keys that the records need.",
                "docs/runbooks/EvergreenSealingKeysWrong.md",
            ),
        );
    }
    if invalid > 0 {
        found.add(
            Severity::Critical,
            "needs_consent",
            format!("{} without a consent that GHL accepts", count(invalid, "installation")),
            (
                "Calls of these customers fail until they connect again.",
                "List them with `evergreen installations list --status invalid`, and send each customer the link of \
                 `evergreen installations reconnect-link`.",
                "docs/runbooks/EvergreenRefreshFail.md",
            ),
        );
    }
    for unclaimed in facts.unclaimed.iter().flatten() {
        found.add(
            Severity::Critical,
            "unclaimed",
            format!(
                "{} of the app {}, which no broker knows, {} due",
                count(unclaimed.due, "installation"),
                unclaimed.app,
                if unclaimed.due == 1 { "is" } else { "are" }
            ),
            (
                "Their tokens are not refreshed, so their calls fail within a day.",
                "Add the app to the settings of the brokers.",
                "docs/runbooks/EvergreenUnclaimedInstallations.md",
            ),
        );
    }
    if suspect > 0 {
        found.add(
            Severity::Warning,
            "suspect",
            format!(
                "GHL refused the refresh token of {}, and is asked again",
                count(suspect, "installation")
            ),
            (
                "None yet. After three refusals these customers have to consent again.",
                "Wait a minute. If there are many, check the client id and secret.",
                "docs/runbooks/EvergreenRefreshRefused.md",
            ),
        );
    }
    found.0
}

fn refreshes(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    let Some(refreshes) = &facts.refreshes else {
        return found.0;
    };
    if refreshes.expired > 0 {
        found.add(
            Severity::Critical,
            "expired",
            format!("{} expired and not refreshed", count(refreshes.expired, "access token")),
            (
                "Calls of these customers wait or fail.",
                "Look at the other problems here, and at the log of the brokers for [REFRESH-FAIL].",
                "docs/runbooks/EvergreenTokenNearExpiry.md",
            ),
        );
    }
    if refreshes
        .oldest_due
        .is_some_and(|seconds| seconds > LATE_SECONDS)
    {
        found.add(
            Severity::Warning,
            "backlog",
            format!(
                "{} due for a refresh, the first for more than five minutes",
                count(refreshes.due, "installation")
            ),
            (
                "None yet: tokens are refreshed long before they expire.",
                "Start more brokers, or raise EVERGREEN_REFRESH_CONCURRENCY, if GHL answers.",
                "docs/runbooks/EvergreenBacklogGrowing.md",
            ),
        );
    }
    found.0
}

/// Whether `some` is at least this percentage of the calls of the last hour.
fn is_share(some: u64, all: u64, percent: u64) -> bool {
    some > 0 && all >= FEWEST_CALLS && some.saturating_mul(100) >= all.saturating_mul(percent)
}

fn calls(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    let Some(history) = &facts.history else {
        return found.0;
    };
    let of = |name| history.sum(name, HOUR);
    let (forwarded, failed) = (of("forwarded"), of("call_failed"));
    let all = forwarded + failed + of("call_refused");
    if is_share(failed, all, 1) {
        found.add(
            Severity::Critical,
            "own_errors",
            format!("evergreen itself failed {failed} of {all} calls in the last hour"),
            (
                "These calls were not sent to GHL.",
                "Look at the gateways' logs for `request failed`.",
                "docs/runbooks/EvergreenOwn5xx.md",
            ),
        );
    }
    if is_share(of("ghl_5xx"), forwarded, 10) {
        found.add(
            Severity::Warning,
            "ghl_5xx",
            format!(
                "GHL failed {} of {forwarded} calls in the last hour",
                of("ghl_5xx")
            ),
            (
                "These calls failed after their retries.",
                "Look at GHL's status page.",
                "docs/runbooks/EvergreenGhl5xx.md",
            ),
        );
    }
    if is_share(of("ghl_429"), forwarded, 5) {
        found.add(
            Severity::Warning,
            "rate_limited",
            format!(
                "GHL answered 429 to {} of {forwarded} calls in the last hour",
                of("ghl_429")
            ),
            (
                "These calls were not done. Another program may use the same rate limit.",
                "Make fewer calls for one location, or spread them.",
                "docs/http.md",
            ),
        );
    }
    found.0
}

fn connecting(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    // The sandbox takes any address, and programs on its machine need no key.
    if facts.sandbox {
        return found.0;
    }
    for app in &facts.ghl.apps {
        if !app.redirect_uri.starts_with("https://") {
            found.add(
                Severity::Warning,
                "redirect_uri",
                format!("The redirect URI of the app {} is not https: {}", app.name, app.redirect_uri),
                (
                    "No customer can connect from the internet.",
                    "Put a proxy with a certificate before evergreen, and set GHL_REDIRECT_URI to its address.",
                    "docs/settings.md",
                ),
            );
        }
    }
    if facts.has_caller_key == Some(false) {
        found.add(
            Severity::Warning,
            "no_caller_key",
            "There is no key with which a backend could call".to_owned(),
            (
                "No call is accepted.",
                "Make one with `evergreen keys create`.",
                "docs/calling-ghl.md",
            ),
        );
    }
    let total = facts.installations.as_ref().map_or(0, |it| it.total);
    let webhooks = facts
        .history
        .as_ref()
        .map(|it| it.totals.get("webhooks").copied());
    if total > 0 && webhooks.is_some_and(|number| number.unwrap_or_default() == 0) {
        found.add(
            Severity::Note,
            "no_webhooks",
            "No webhook of GHL was taken in the last 24 hours".to_owned(),
            (
                "evergreen learns late that a customer has uninstalled the app or changed the plan.",
                "Set the webhook URL on the app's page in the marketplace to /webhooks/ghl of your public address.",
                "docs/runbooks/EvergreenWebhooksFailing.md",
            ),
        );
    }
    found.0
}

fn events(facts: &Overview) -> Vec<Advice> {
    let mut found = Found::default();
    for endpoint in facts.endpoints.iter().flatten() {
        if endpoint.down || endpoint.failing > 0 {
            found.add(
                Severity::Warning,
                "endpoint_down",
                format!(
                    "The endpoint {} does not take its messages: {} wait for it",
                    endpoint.id,
                    count(endpoint.waiting, "subject")
                ),
                (
                    "Your backend does not learn of changes. Messages are kept for 3 days.",
                    "Mend the endpoint. `evergreen events test` tries it.",
                    "docs/runbooks/EvergreenEndpointDown.md",
                ),
            );
        }
        if endpoint.dead_letters > 0 {
            found.add(
                Severity::Warning,
                "dead_letters",
                format!(
                    "{} for the endpoint {} given up",
                    count(endpoint.dead_letters, "message"),
                    endpoint.id
                ),
                (
                    "Your backend has missed changes.",
                    "Send them again with `evergreen events resend`.",
                    "docs/runbooks/EvergreenEventsGivenUp.md",
                ),
            );
        }
    }
    found.0
}

fn housekeeping(facts: &Overview) -> Vec<Advice> {
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
                "docs/operations.md#rotating-keys",
            ),
        );
    }
    found.0
}
