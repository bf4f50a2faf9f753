//! An outage at GHL costs a handful of installations, never the fleet.
//!
//! A refresh token is good once. When GHL's answer is lost, the token may be spent and its successor
//! gone. After three such outcomes in a row, counted over all brokers, no broker spends a new
//! token. Installations in doubt go on being asked for: they have nothing more to lose, and tell
//! when GHL is well again. The first success ends it for all. An access token that expires meanwhile
//! is let expire: calls fail during the outage, and the installation survives.
//!
//! The same record counts first refusals. If GHL refuses everybody, it is probably wrong: then no
//! installation with a good access token is given up ([`crate::outcome`]).
//!
//! If GHL answers clearly but grants nothing to those in doubt, one new token at a time finds out.
//! If nothing is heard of them at all, one is risked after ten minutes, and then more and more
//! seldom: a few accounts that GHL always fails for must not stop everybody for ever.

mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::{Timestamp, TokenReader};
use store_writer::{StoreWriter, WriteError};
use tracing::{error, info, warn};

use crate::metrics;
use state::{Outage, REFUSED_IN_A_ROW};

/// How often a change that lost a race is decided anew.
const ATTEMPTS: usize = 16;

/// This broker's copy of what all brokers know.
#[derive(Debug)]
pub(crate) struct Outages {
    writer: StoreWriter,
    reader: TokenReader,
    state: Mutex<State>,
    /// A simulation takes the rule away.
    #[cfg(feature = "simulation")]
    pub(crate) is_ignored: bool,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Outage>,
    last_success: Option<Timestamp>,
}

impl Outages {
    pub(crate) fn new(writer: StoreWriter, reader: TokenReader) -> Self {
        Self {
            writer,
            reader,
            state: Mutex::default(),
            #[cfg(feature = "simulation")]
            is_ignored: false,
        }
    }

    /// Whether no new token is to be spent, as far as this broker knows.
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

    /// Learns from the store what others have seen.
    ///
    /// # Errors
    /// When the store is away: what was known holds.
    pub(crate) async fn look(&self) -> Result<(), WriteError> {
        let text = self.writer.outage().await?;
        let shared = parse(text.as_deref());
        let (last_success, now) = (self.state().last_success, self.reader.now());
        let is_over = shared
            .as_ref()
            .zip(last_success)
            .is_some_and(|(outage, success)| outage.is_ended_by(success, now));
        self.learn(shared);
        if is_over {
            self.end(last_success.unwrap_or(now)).await;
        }
        Ok(())
    }

    /// GHL granted a token that was asked for at `at`.
    pub(crate) async fn succeeded(&self, at: Timestamp) {
        let is_known = {
            let mut state = self.state();
            state.last_success = Some(at);
            state.known.is_some()
        };
        if is_known {
            self.end(at).await;
        }
    }

    /// The fate of a token that nobody had sent before `began_at` is unknown.
    pub(crate) async fn new_token_unknown(&self, began_at: Timestamp) {
        let now = self.reader.now();
        self.change(|known| Some(Some(Outage::after_unknown(known, began_at, now))))
            .await;
    }

    /// By the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.reader.now()
    }

    /// GHL refused a token that it had not refused before.
    pub(crate) async fn new_token_refused(&self) {
        let now = self.reader.now();
        self.change(|known| Some(Some(Outage::after_refusal(known, now))))
            .await;
    }

    /// Whether GHL refuses whoever asks, as far as this broker knows.
    pub(crate) fn refuses_all(&self) -> bool {
        self.state().known.as_ref().is_some_and(Outage::refuses_all)
    }

    /// GHL answered clearly for an installation in doubt, or there is none.
    pub(crate) async fn clear_answer(&self) {
        if self.is_contained() {
            let now = self.reader.now();
            self.change(|known| known?.after_clear_answer(now).map(Some))
                .await;
        }
    }

    /// Whether this broker may spend one new token to find out whether GHL is well.
    pub(crate) async fn may_probe(&self) -> bool {
        let now = self.reader.now();
        self.change(|known| known?.probe(now).map(Some)).await
    }

    async fn end(&self, success: Timestamp) {
        let now = self.reader.now();
        self.change(|known| {
            known
                .filter(|outage| outage.is_ended_by(success, now))
                .map(|_| None)
        })
        .await;
    }

    /// Decides on what all know, and writes it unless somebody else did. Whether it was written; a
    /// store that is away leaves it to this broker alone.
    async fn change(&self, decide: impl Fn(Option<&Outage>) -> Option<Option<Outage>>) -> bool {
        for _ in 0..ATTEMPTS {
            let text = match self.writer.outage().await {
                Ok(text) => text,
                Err(error) => return self.change_alone(&decide, &error),
            };
            let shared = parse(text.as_deref());
            let Some(next) = decide(shared.as_ref()) else {
                self.learn(shared);
                return false;
            };
            let written = next.as_ref().map(render);
            let replaced = self
                .writer
                .replace_outage(text.as_deref(), written.as_deref())
                .await;
            match replaced {
                Ok(true) => {
                    self.learn(next);
                    return true;
                }
                Ok(false) => {}
                Err(error) => return self.change_alone(&decide, &error),
            }
        }
        warn!("what GHL's token endpoint does could not be noted: others write all the time");
        false
    }

    fn change_alone(
        &self,
        decide: &impl Fn(Option<&Outage>) -> Option<Option<Outage>>,
        error: &WriteError,
    ) -> bool {
        warn!(
            error = error as &dyn std::error::Error,
            "the other brokers could not be told how GHL answers"
        );
        let known = self.state().known.clone();
        match decide(known.as_ref()) {
            Some(next) => {
                self.learn(next);
                true
            }
            None => false,
        }
    }

    fn learn(&self, next: Option<Outage>) {
        let is_contained = next.as_ref().is_some_and(Outage::is_contained);
        let refuses_all = next.as_ref().is_some_and(Outage::refuses_all);
        let known = std::mem::replace(&mut self.state().known, next);
        let refused_all = known.as_ref().is_some_and(Outage::refuses_all);
        metrics::refuses_all(refuses_all);
        if refuses_all && !refused_all {
            error!(
                "GHL refuses the refresh tokens of {REFUSED_IN_A_ROW} installations in a row: nobody \
                 whose access token is good is given up until one is granted. Look at GHL's status \
                 page, and whether the app still exists"
            );
        }
        let since = known.and_then(|known| known.contained_since());
        metrics::contained(is_contained);
        match (since, is_contained) {
            (None, true) => error!(
                "GHL leaves open whether it spends refresh tokens (time-outs, 5xx): no new refresh \
                 token is spent until one of those in doubt is answered. Nothing is to be done \
                 here; look at GHL's status page. Access tokens that expire meanwhile fail, and \
                 their installations survive"
            ),
            (Some(since), false) => {
                let took = Duration::from_secs(self.reader.now().since(since).as_secs());
                let took = humantime::format_duration(took);
                info!("GHL grants tokens again after {took}: all refreshes go on");
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A note that cannot be read is as good as none: it is of another version, or damaged.
fn parse(text: Option<&str>) -> Option<Outage> {
    serde_json::from_str(text?).ok()
}

fn render(outage: &Outage) -> String {
    serde_json::to_string(outage).expect("numbers serialise")
}
