//! Problems of calls, and of messages to endpoints.

use super::{Advice, Found, Severity, count};
use crate::overview::Overview;

/// The last hour, in buckets.
const HOUR: usize = 12;
/// The fewest calls of an hour that a share is made of.
const FEWEST_CALLS: u64 = 20;

pub(super) fn calls(facts: &Overview) -> Vec<Advice> {
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

/// Whether `some` is at least this percentage of the calls of the last hour.
fn is_share(some: u64, all: u64, percent: u64) -> bool {
    some > 0 && all >= FEWEST_CALLS && some.saturating_mul(100) >= all.saturating_mul(percent)
}

pub(super) fn events(facts: &Overview) -> Vec<Advice> {
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
