//! Answers that come after the broker stopped to wait. GHL may be slow for minutes and right all the
//! same: the call is read on in the background, and its answer goes the usual way.

use std::sync::Arc;
use std::time::Duration;

use ghl::token_endpoint::Call;
use ghl::{Answer, Failure};
use store_writer::journal::Entry;
use store_writer::writer::Begun;
use tokio::time::{Instant, interval_at, sleep_until};
use tracing::{debug, info, warn};

use super::{Worker, unless_foreign};
use crate::metrics;
use crate::outcome::Outcome;

/// How long an answer is waited for after the call went out, unless GHL closes the connection.
const LATEST: Duration = Duration::from_secs(5 * 60);
/// How often other brokers are told that the answer is still waited for: they believe it for three
/// times as long.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Worker {
    /// Reads on, in a task of its own. The attempt stays in the journal.
    pub(super) fn read_late(self: &Arc<Self>, begun: Begun, entry: Entry, call: Call) {
        let worker = self.clone();
        self.shutdown.spawn(async move {
            let answered = worker.read_on(&begun, call).await;
            worker.open_calls.closed(&begun);
            let answered =
                answered.map(|answered| answered.and_then(|answer| unless_foreign(&begun, answer)));
            worker.answered_late(begun, entry, answered).await;
        });
    }

    /// `None`: nothing came.
    async fn read_on(&self, begun: &Begun, mut call: Call) -> Option<Result<Answer, Failure>> {
        let began = Instant::now();
        let latest = began + LATEST.saturating_sub(self.timing.call);
        let mut tell = interval_at(began + TELL_EVERY, TELL_EVERY);
        loop {
            tokio::select! {
                biased;
                answered = &mut call => return Some(answered),
                () = sleep_until(latest) => return None,
                _ = tell.tick() => self.tell_others(begun, true).await,
            }
        }
    }

    async fn answered_late(
        &self,
        begun: Begun,
        entry: Entry,
        answered: Option<Result<Answer, Failure>>,
    ) {
        let id = &begun.installation;
        match answered {
            Some(Ok(answer)) => {
                metrics::late_answer();
                // GHL is slow, but it spends no token without an answer.
                let well_at = self.outages.now();
                let outcome = self.granted(&begun, &entry, answer, well_at).await;
                match outcome {
                    Outcome::Refreshed { generation } => info!(installation = %id, %generation,
                        "an answer of GHL came late, and nothing is lost"),
                    other => debug!(installation = %id, ?other, "an answer of GHL came late"),
                }
                return;
            }
            Some(Err(failure)) => {
                warn!(installation = %id, error = &failure as &dyn std::error::Error,
                    "a late call brought no token");
                self.finish_failed(&entry, &failure).await;
            }
            None => {
                warn!(installation = %id,
                    "GHL has not answered for 5 minutes: its answer is waited for no longer");
                self.forget(&entry).await;
            }
        }
        self.tell_others(&begun, false).await;
    }

    async fn tell_others(&self, begun: &Begun, is_reading: bool) {
        let told = self
            .writer
            .record_late_reader(begun, &self.name, is_reading)
            .await;
        if let Err(error) = told {
            debug!(installation = %begun.installation, error = &error as &dyn std::error::Error,
                "other brokers cannot be told that an answer is waited for");
        }
    }
}
