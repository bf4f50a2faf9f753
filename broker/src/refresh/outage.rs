//! Outage detection: an outage at GHL costs a handful of installations, never the fleet.
//!
//! A refresh token is valid once. When GHL's response is lost, the token may be spent and its successor
//! gone. After three such outcomes in a row, counted over all brokers, no broker spends a new token. This
//! is called containment.
//!
//! Unresolved installations are still retried. They have nothing more to lose, and they show when GHL has
//! recovered. The first success ends the containment for all brokers. Access tokens that expire meanwhile
//! stay expired: calls fail during the outage, but the installations survive.
//!
//! The same record counts first refusals. If GHL refuses every installation, GHL is probably wrong. Then
//! no installation with a valid access token becomes invalid ([`crate::refresh::outcome`]).
//!
//! Two kinds of probe spend one new token during containment:
//!
//! - GHL responds clearly but grants nothing to the unresolved installations: a probe after 40 s.
//! - The unresolved installations get no clear response at all: a probe after ten minutes, then with
//!   growing pauses. Accounts for which GHL always fails must not stop all refreshes for ever.

mod state;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use service::locks::lock;
use store::{Timestamp, TokenReader};
use store_writer::{StoreWriter, WriteError};
use tracing::{error, info, warn};

use crate::metrics;
use state::{Outage, REFUSED_THRESHOLD};

/// How often an update that lost a race is tried again.
const MAX_UPDATE_ATTEMPTS: usize = 16;

/// This broker's copy of the outage record that all brokers share.
#[derive(Debug)]
pub(crate) struct OutageDetector {
    writer: StoreWriter,
    reader: TokenReader,
    state: Mutex<State>,
    /// Whether a simulation has switched the rule off.
    #[cfg(feature = "simulation")]
    pub(crate) is_ignored: bool,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Outage>,
    last_success: Option<Timestamp>,
}

impl OutageDetector {
    pub(crate) fn new(writer: StoreWriter, reader: TokenReader) -> Self {
        Self {
            writer,
            reader,
            state: Mutex::default(),
            #[cfg(feature = "simulation")]
            is_ignored: false,
        }
    }

    /// Whether no new token may be spent, by the cached record.
    pub(crate) fn is_contained(&self) -> bool {
        #[cfg(feature = "simulation")]
        if self.is_ignored {
            return false;
        }
        self.state()
            .known
            .as_ref()
            .is_some_and(Outage::is_contained)
    }

    /// Reads the shared record from the store.
    ///
    /// # Errors
    /// If the store is unreachable. The cached record then stays in force.
    pub(crate) async fn poll(&self) -> Result<(), WriteError> {
        let text = self.writer.outage().await?;
        let shared = parse(text.as_deref());
        let (last_success, now) = (self.state().last_success, self.reader.now());
        let is_over = shared
            .as_ref()
            .zip(last_success)
            .is_some_and(|(outage, success)| outage.is_ended_by(success, now));
        self.set_known(shared);
        if is_over {
            self.end(last_success.unwrap_or(now)).await;
        }
        Ok(())
    }

    /// Records that GHL granted a token in response to a request of `at`.
    pub(crate) async fn record_success(&self, at: Timestamp) {
        let is_known = {
            let mut state = self.state();
            state.last_success = Some(at);
            state.known.is_some()
        };
        if is_known {
            self.end(at).await;
        }
    }

    /// Records that the outcome for a new token is unknown. Its attempt began at `began_at`.
    pub(crate) async fn record_unknown(&self, began_at: Timestamp) {
        let now = self.reader.now();
        self.update_shared(|known| Some(Some(Outage::after_unknown(known, began_at, now))))
            .await;
    }

    /// The store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.reader.now()
    }

    /// Records that GHL refused a token for the first time.
    pub(crate) async fn record_refusal(&self) {
        let now = self.reader.now();
        self.update_shared(|known| Some(Some(Outage::after_refusal(known, now))))
            .await;
    }

    /// Whether GHL refuses every installation, by the cached record.
    pub(crate) fn is_refusing_all(&self) -> bool {
        self.state()
            .known
            .as_ref()
            .is_some_and(Outage::is_refusing_all)
    }

    /// Records that GHL responded clearly for an unresolved installation, or that there is none.
    pub(crate) async fn record_clear_response(&self) {
        if self.is_contained() {
            let now = self.reader.now();
            self.update_shared(|known| known?.after_clear_response(now).map(Some))
                .await;
        }
    }

    /// Whether this broker may spend one new token to test whether GHL has recovered.
    pub(crate) async fn try_acquire_probe(&self) -> bool {
        let now = self.reader.now();
        self.update_shared(|known| known?.probe(now).map(Some))
            .await
    }

    async fn end(&self, success: Timestamp) {
        let now = self.reader.now();
        self.update_shared(|known| {
            known
                .filter(|outage| outage.is_ended_by(success, now))
                .map(|_| None)
        })
        .await;
    }

    /// Applies `decide` to the shared record by compare-and-swap. Returns whether the record changed. If
    /// the store is unreachable, only the cached record changes.
    async fn update_shared(
        &self,
        decide: impl Fn(Option<&Outage>) -> Option<Option<Outage>>,
    ) -> bool {
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let text = match self.writer.outage().await {
                Ok(text) => text,
                Err(error) => return self.update_local(&decide, &error),
            };
            let shared = parse(text.as_deref());
            let Some(next) = decide(shared.as_ref()) else {
                self.set_known(shared);
                return false;
            };
            let written = next.as_ref().map(render);
            let replaced = self
                .writer
                .replace_outage(text.as_deref(), written.as_deref())
                .await;
            match replaced {
                Ok(true) => {
                    self.set_known(next);
                    return true;
                }
                Ok(false) => {}
                Err(error) => return self.update_local(&decide, &error),
            }
        }
        warn!("the outage record could not be updated: other brokers write it all the time");
        false
    }

    fn update_local(
        &self,
        decide: &impl Fn(Option<&Outage>) -> Option<Option<Outage>>,
        error: &WriteError,
    ) -> bool {
        warn!(
            error = error as &dyn std::error::Error,
            "the state of GHL's token endpoint could not be shared with other brokers"
        );
        let known = self.state().known.clone();
        match decide(known.as_ref()) {
            Some(next) => {
                self.set_known(next);
                true
            }
            None => false,
        }
    }

    fn set_known(&self, next: Option<Outage>) {
        let is_contained = next.as_ref().is_some_and(Outage::is_contained);
        let is_refusing_all = next.as_ref().is_some_and(Outage::is_refusing_all);
        let known = std::mem::replace(&mut self.state().known, next);
        let was_refusing_all = known.as_ref().is_some_and(Outage::is_refusing_all);
        metrics::refused_for_all(is_refusing_all);
        if is_refusing_all && !was_refusing_all {
            error!(
                "GHL has refused the refresh tokens of {REFUSED_THRESHOLD} installations in a row. Until \
                 it grants one, no installation with a valid access token becomes invalid. Check GHL's \
                 status page, and whether the app still exists"
            );
        }
        let since = known.and_then(|known| known.contained_since());
        metrics::containment(is_contained);
        match (since, is_contained) {
            (None, true) => error!(
                "GHL's token endpoint fails (timeouts, 5xx), and it is unknown whether it spends refresh \
                 tokens. No new refresh token is spent until an unresolved one is answered. No action is \
                 needed here; check GHL's status page. Access tokens that expire meanwhile fail, but \
                 their installations survive"
            ),
            (Some(since), false) => {
                let took = Duration::from_secs(self.reader.now().since(since).as_secs());
                let took = humantime::format_duration(took);
                info!("GHL grants tokens again after {took}: all refreshes continue");
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Parses the record. One of another version, or a damaged one, counts as absent.
fn parse(text: Option<&str>) -> Option<Outage> {
    serde_json::from_str(text?).ok()
}

fn render(outage: &Outage) -> String {
    serde_json::to_string(outage).expect("numbers serialise")
}
