//! The refreshes that others ask for, each with a span.

use std::sync::Arc;

use service::trace::TraceContext;
use store::InstallationId;
use store_writer::writer::Wanted;
use tracing::Instrument;

use super::{Risk, Worker};
use crate::refresh::outcome::Outcome;
use crate::refresh::spans;

impl Worker {
    /// As [`Worker::refresh_for`], asked by the current span, if there is one.
    pub(crate) async fn refresh(self: &Arc<Self>, id: &InstallationId, wanted: Wanted) -> Outcome {
        self.refresh_for(&TraceContext::current(), id, wanted).await
    }

    /// Refreshes one installation as `wanted` says, unless refreshes pause. `asked_by`: the request that needs it.
    ///
    /// Not cancel-safe: run it in a task that nothing cancels.
    pub(crate) async fn refresh_for(
        self: &Arc<Self>,
        asked_by: &TraceContext,
        id: &InstallationId,
        wanted: Wanted,
    ) -> Outcome {
        let span = spans::refresh(id, asked_by);
        let refreshing = self.refresh_unless_paused(id, wanted);
        let outcome = refreshing.instrument(span.clone()).await;
        spans::ended(&span, &outcome);
        outcome
    }

    /// As [`Worker::refresh`], even while refreshes pause or an outage forbids to spend new tokens.
    pub(crate) async fn probe(self: &Arc<Self>, id: &InstallationId, wanted: Wanted) -> Outcome {
        let span = spans::refresh(id, &TraceContext::current());
        let probing = self.attempt(id, wanted, Risk::Probe);
        let outcome = probing.instrument(span.clone()).await;
        spans::ended(&span, &outcome);
        outcome
    }
}
