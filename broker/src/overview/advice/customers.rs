//! Problems of installations, of their refreshes, and of customers who want to connect.

use super::{Advice, Found, Severity, count};
use crate::overview::Overview;

/// An installation that has been due for longer was not refreshed in time.
pub(super) const LATE_SECONDS: u64 = 300;

pub(super) fn ghl(facts: &Overview) -> Vec<Advice> {
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

pub(super) fn installations(facts: &Overview) -> Vec<Advice> {
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
                "Give the brokers the sealing keys that the records need, and gateways those of the access ring.",
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
                "Calls work while GHL takes the access token. After three refusals these customers have to consent again.",
                "Wait a minute. If there are many, check the client id and secret.",
                "docs/runbooks/EvergreenRefreshRefused.md",
            ),
        );
    }
    found.0
}

pub(super) fn refreshes(facts: &Overview) -> Vec<Advice> {
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

pub(super) fn connecting(facts: &Overview) -> Vec<Advice> {
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
