//! The spans of a refresh: one for the whole, and one for each step. A refresh is a trace of its own, with a link to the
//! request that asked for it: the request may leave, and others may wait for the same refresh.

use service::trace::{self, TraceContext};
use store::InstallationId;
use store_writer::NotLeased;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span};

use super::outcome::Outcome;
use super::worker::spend::CallOutcome;

macro_rules! step {
    ($name:literal) => {
        debug_span!(
            $name,
            otel.kind = "internal",
            otel.status_code = Empty,
            "error.type" = Empty
        )
    };
}

/// The span of a whole refresh.
pub(crate) fn refresh(id: &InstallationId, asked_by: &TraceContext) -> Span {
    let span = debug_span!(
        parent: None,
        "refresh",
        otel.kind = "internal",
        otel.status_code = Empty,
        "error.type" = Empty,
        installation = id.as_str(),
        outcome = Empty,
    );
    asked_by.link(&span);
    span
}

/// Records how a refresh ended.
pub(crate) fn ended(span: &Span, outcome: &Outcome) {
    let (label, has_failed) = match outcome {
        Outcome::Refreshed { .. } => ("refreshed", false),
        Outcome::Superseded => ("superseded", false),
        Outcome::Adopted => ("adopted", false),
        Outcome::NotDue(_) => ("not_due", false),
        Outcome::Busy(_) => ("busy", false),
        Outcome::RateLimited(_) => ("rate_limited", false),
        Outcome::Contained => ("contained", false),
        Outcome::NotRefreshable(_) => ("not_refreshable", false),
        Outcome::UnknownInstallation => ("unknown_installation", false),
        Outcome::UnknownApp => ("unknown_app", true),
        Outcome::Journaled => ("journaled", true),
        Outcome::Failed(kind) => (kind.as_str(), true),
        Outcome::Unavailable(obstacle, _) => (obstacle.as_str(), true),
    };
    span.record("outcome", label);
    if has_failed {
        trace::failed(span, label);
    }
}

/// The lease of the installation. Another attempt may hold it, which is no failure.
pub(super) async fn lease<T>(
    work: impl Future<Output = Result<T, NotLeased>>,
) -> Result<T, NotLeased> {
    let span = step!("lease");
    let taken = work.instrument(span.clone()).await;
    match &taken {
        Ok(_) | Err(NotLeased::Held) => {}
        Err(NotLeased::Unreachable { .. }) => trace::failed(&span, "no_quorum"),
        Err(NotLeased::Misconfigured(_)) => trace::failed(&span, "misconfigured"),
    }
    taken
}

/// The note in the store that the refresh token is about to be sent.
pub(super) async fn intent<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    stored(step!("intent"), work).await
}

/// A note in the journal: the intent, or GHL's answer.
pub(super) async fn journal<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    stored(step!("journal"), work).await
}

/// A copy of GHL's answer for other brokers.
pub(super) async fn escrow<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    stored(step!("escrow"), work).await
}

/// The write of the new tokens to the store.
pub(super) async fn commit<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    stored(step!("commit"), work).await
}

/// The exchange of the refresh token at GHL.
pub(super) async fn exchange(work: impl Future<Output = CallOutcome>) -> CallOutcome {
    let span = step!("exchange");
    let outcome = work.instrument(span.clone()).await;
    match &outcome {
        CallOutcome::Response(_) => {}
        CallOutcome::Failed(_) => trace::failed(&span, "no_token"),
        CallOutcome::Late(_) => trace::failed(&span, "timeout"),
    }
    outcome
}

async fn stored<T, E>(span: Span, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let done = work.instrument(span.clone()).await;
    if done.is_err() {
        trace::failed(&span, "not_stored");
    }
    done
}
