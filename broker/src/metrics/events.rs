//! Metrics of consents, webhooks, deliveries, and the audit log.

use metrics::{counter, describe_counter};

use crate::api::error::ErrorKind;
use crate::events::delivery_error::DeliveryError;
use crate::overview::counts::{self, Count};

/// Tokens of agencies' locations.
const MINTS: &str = "evergreen_mints_total";
const DELIVERIES: &str = "evergreen_deliveries_total";
const WEBHOOKS: &str = "evergreen_webhooks_total";
const CONSENTS: &str = "evergreen_consents_total";
const AUDIT_LOST: &str = "evergreen_audit_lost_total";

/// The outcome of a token that GHL gave.
const MINTED: &str = "ok";

/// Every value of the label `outcome` of [`MINTS`].
const MINT_OUTCOMES: [&str; 12] = [
    MINTED,
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

/// Likewise, of [`WEBHOOKS`].
const WEBHOOK_OUTCOMES: [&str; 6] = [
    "processed",
    "duplicate",
    "ignored",
    "refused",
    "invalid",
    "failed",
];

/// The outcome of a consent that has connected an installation.
const CONNECTED: &str = "connected";

/// The errors that end a consent. Each is an outcome.
const CONSENT_ERRORS: [ErrorKind; 13] = [
    ErrorKind::ConsentDenied,
    ErrorKind::ConsentStateInvalid,
    ErrorKind::ConsentRejected,
    ErrorKind::ConsentFailed,
    ErrorKind::ConsentResponseUnusable,
    ErrorKind::ConsentNotStored,
    ErrorKind::ConnectLinkUnknown,
    ErrorKind::OtherOwner,
    ErrorKind::ExternalIdTaken,
    ErrorKind::RateLimited,
    ErrorKind::StoreUnavailable,
    ErrorKind::RecordUnreadable,
    ErrorKind::RecordUnwritable,
];

pub(super) fn describe() {
    describe_counter!(
        MINTS,
        "Tokens of agencies' locations that GHL was asked for, by outcome"
    );
    for outcome in MINT_OUTCOMES {
        counter!(MINTS, "outcome" => outcome).absolute(0);
    }
    describe_counter!(
        DELIVERIES,
        "Attempts to deliver events and webhooks to an endpoint, by outcome; `dead`: a message was given up; \
         `dropped`: a message was not kept since too many wait"
    );
    describe_counter!(WEBHOOKS, "Webhooks of GHL, by outcome");
    for outcome in WEBHOOK_OUTCOMES {
        counter!(WEBHOOKS, "outcome" => outcome).absolute(0);
    }
    describe_counter!(CONSENTS, "Consents that ended, by outcome");
    let errors = CONSENT_ERRORS.map(outcome_of_consent_error);
    for outcome in errors.into_iter().chain([CONNECTED]) {
        counter!(CONSENTS, "outcome" => outcome).absolute(0);
    }
    describe_counter!(
        AUDIT_LOST,
        "Entries of the audit log that were not written, by where they are missing"
    );
    for place in ["file", "store"] {
        counter!(AUDIT_LOST, "place" => place).absolute(0);
    }
}

/// Counts a token of a location that was asked for.
pub(crate) fn minted(outcome: &'static str) {
    if outcome == MINTED {
        counts::add(Count::Minted);
    }
    counter!(MINTS, "outcome" => outcome).increment(1);
}

/// Registers the deliveries to an endpoint, so that an alert on their increase sees the first one.
pub(crate) fn endpoint_configured(endpoint: &str) {
    let ends = ["delivered", "dead", "dropped"];
    for outcome in ends.into_iter().chain(DeliveryError::KINDS) {
        counter!(DELIVERIES, "endpoint" => endpoint.to_owned(), "outcome" => outcome).increment(0);
    }
}

/// An attempt to deliver a message, or its end.
pub(crate) fn delivered(endpoint: &str, outcome: &'static str) {
    match outcome {
        "delivered" => counts::add(Count::Delivered),
        // Its last attempt was counted.
        "dead" => {}
        _ => counts::add(Count::Undelivered),
    }
    counter!(DELIVERIES, "endpoint" => endpoint.to_owned(), "outcome" => outcome).increment(1);
}

/// Messages for an endpoint that were not stored.
pub(crate) fn dropped(endpoint: &str, messages: u64) {
    counter!(DELIVERIES, "endpoint" => endpoint.to_owned(), "outcome" => "dropped")
        .increment(messages);
}

/// Counts a webhook. `ended`: how it was answered; `None` with an error.
pub(crate) fn webhook_received(outcome: Result<&'static str, ErrorKind>) {
    if outcome.is_ok() {
        counts::add(Count::Webhook);
    }
    let outcome = outcome.unwrap_or_else(|kind| match kind {
        ErrorKind::WebhookSignatureInvalid => "refused",
        ErrorKind::BodyTooLarge
        | ErrorKind::BodyIncomplete
        | ErrorKind::BodyTimeout
        | ErrorKind::RequestInvalid => "invalid",
        // GHL sends it again.
        _ => "failed",
    });
    counter!(WEBHOOKS, "outcome" => outcome).increment(1);
}

/// Counts a consent that ended. `error`: `None` if it has connected an installation.
pub(crate) fn consent_ended(error: Option<ErrorKind>) {
    if error.is_none() {
        counts::add(Count::Connected);
    }
    let outcome = error.map_or(CONNECTED, outcome_of_consent_error);
    counter!(CONSENTS, "outcome" => outcome).increment(1);
}

/// The code of the error, as a word about consents.
fn outcome_of_consent_error(kind: ErrorKind) -> &'static str {
    let code = kind.code();
    code.strip_prefix("consent_").unwrap_or(code)
}

pub(crate) fn audit_lost(place: &'static str, entries: usize) {
    counter!(AUDIT_LOST, "place" => place).increment(entries as u64);
}
