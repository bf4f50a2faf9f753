//! Late responses: those that arrive after the timeout of an attempt. GHL may be slow for minutes and still
//! respond correctly. So the call is read in the background, and its response is committed as usual.

use std::sync::Arc;
use std::time::Duration;

use ghl::token_endpoint::PendingCall;
use ghl::{Failure, TokenResponse};
use store_writer::journal::Entry;
use store_writer::writer::Begun;
use tokio::time::{Instant, interval_at, sleep_until};
use tracing::{debug, info, warn};

use super::Worker;
use super::commit::check_owner;
use crate::metrics;
use crate::refresh::outcome::Outcome;

/// How long a response is awaited after the request was sent, unless GHL closes the connection.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);
/// How often this broker announces in the record that it still waits. Other brokers believe an announcement
/// for three times as long.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);

impl Worker {
    /// Reads the call in a task of its own. The attempt stays in the journal.
    pub(super) fn read_in_background(
        self: &Arc<Self>,
        begun: Begun,
        entry: Entry,
        call: PendingCall,
    ) {
        let worker = self.clone();
        self.shutdown.spawn(async move {
            let response = worker.await_late_response(&begun, call).await;
            worker.open_calls.close(&begun);
            let response =
                response.map(|response| response.and_then(|found| check_owner(&begun, found)));
            worker.handle_late_response(begun, entry, response).await;
        });
    }

    /// Waits for the response. `None` if none came.
    async fn await_late_response(
        &self,
        begun: &Begun,
        mut call: PendingCall,
    ) -> Option<Result<TokenResponse, Failure>> {
        let began = Instant::now();
        let latest = began + MAX_WAIT.saturating_sub(self.timing.call);
        let mut tell = interval_at(began + ANNOUNCE_INTERVAL, ANNOUNCE_INTERVAL);
        loop {
            tokio::select! {
                biased;
                response = &mut call => {
                    metrics::token_endpoint_answered(self.timing.call + began.elapsed());
                    return Some(response);
                }
                () = sleep_until(latest) => return None,
                _ = tell.tick() => self.announce_late_reader(begun, true).await,
            }
        }
    }

    async fn handle_late_response(
        &self,
        begun: Begun,
        entry: Entry,
        response: Option<Result<TokenResponse, Failure>>,
    ) {
        let id = &begun.installation;
        match response {
            Some(Ok(response)) => {
                metrics::late_answer();
                // GHL is slow, but it responds for every token that it spends.
                let healthy_at = self.outage.now();
                let outcome = self
                    .handle_grant(&begun, &entry, response, healthy_at)
                    .await;
                match outcome {
                    Outcome::Refreshed { generation } => info!(installation = %id, %generation,
                        "a response of GHL came late, and its token is committed"),
                    other => debug!(installation = %id, ?other, "a response of GHL came late"),
                }
                return;
            }
            Some(Err(failure)) => {
                warn!(installation = %id, error = &failure as &dyn std::error::Error,
                    "a late call brought no token");
                self.close_failed_entry(&entry, &failure).await;
            }
            None => {
                warn!(installation = %id,
                    "GHL has not responded for 5 minutes: the call is dropped");
                self.forget(&entry).await;
            }
        }
        self.announce_late_reader(&begun, false).await;
    }

    async fn announce_late_reader(&self, begun: &Begun, is_reading: bool) {
        let told = self
            .writer
            .record_late_reader(begun, &self.name, is_reading)
            .await;
        if let Err(error) = told {
            debug!(installation = %begun.installation, error = &error as &dyn std::error::Error,
                "the record does not say that a late response is awaited");
        }
    }
}
