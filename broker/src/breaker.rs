//! When GHL refuses the client id and secret, the brokers that have them pause together. What they
//! know of it is in the store, under the fingerprint of these credentials: a broker with a mistyped
//! secret takes itself out of the schedule, and pauses nobody who has the right one.
//!
//! Credentials that are refused are refused for every installation: one alarm, instead of a
//! thousand installations that look dead. From then on one refresh per pause, of whichever broker
//! is first, finds out whether GHL takes them again; the first token ends it for all who have them.
//!
//! A 429 is about all of us as well. That pause is short and ends by itself. How long one installation
//! waits is in its record.
//!
//! In spite of either, a token whose answer was lost is asked for again: GHL's grace is over soon.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghl::Failure;
use http::StatusCode;
use store::clock::Moment;
use store::{InstallationId, Timestamp};
use store_writer::installation::LastError;
use store_writer::writer::Begun;
use store_writer::{StoreWriter, WriteError};
use tokio::time::Instant;
use tokio::try_join;
use tracing::{error, info, warn};

use crate::metrics;
use crate::outcome::FailureKind;

/// How long everybody pauses between two looks at the client pair.
const PAUSE: Duration = Duration::from_secs(30);
/// How long everybody pauses after a 429 at most.
const BREATHER: Duration = Duration::from_secs(10);

/// Whether refreshes may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Free,
    /// One of them may, of whoever gets [`Breaker::may_probe`].
    Probe,
    Paused(Pause),
}

/// Why refreshes pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// GHL refuses the client pair: for every refresh.
    Refused,
    /// GHL has too much to do.
    Overloaded,
}

impl Pause {
    /// For people, and for the store.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "GHL refuses the client id and secret",
            Self::Overloaded => "GHL is overloaded (429)",
        }
    }

    fn of(reason: &str) -> Self {
        if reason == Self::Overloaded.as_str() {
            Self::Overloaded
        } else {
            Self::Refused
        }
    }
}

/// What this broker saw, and its view of what all have seen.
#[derive(Debug)]
pub(crate) struct Breaker {
    writer: StoreWriter,
    /// Names the client id and secret.
    credentials: String,
    /// For how long GHL repeats an answer.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rejected: Streak,
    overloaded: Streak,
    /// When the last attempt began that GHL granted a token.
    last_success: Option<Timestamp>,
    /// Since when, as far as this broker knows.
    pair_doubted: Option<Moment>,
    /// Until when it holds unless it is heard of again: the store may be out of reach.
    pause: Option<(Pause, Instant)>,
}

impl Breaker {
    pub(crate) fn new(writer: StoreWriter, credentials: String, grace: Duration) -> Self {
        Self {
            writer,
            credentials,
            grace,
            state: Mutex::default(),
        }
    }

    /// Learns from the store whether refreshes may be started.
    ///
    /// # Errors
    /// When the store is away.
    pub(crate) async fn look(&self) -> Result<Way, WriteError> {
        let (pause, doubt) = try_join!(
            self.writer.breaker(&self.credentials),
            self.writer.refused_credentials(&self.credentials)
        )?;
        metrics::breaker(doubt.is_some());
        let pause = pause.as_deref().map(Pause::of);
        let way = match (pause, &doubt) {
            (Some(pause), _) => Way::Paused(pause),
            (None, Some(_)) => Way::Probe,
            (None, None) => Way::Free,
        };
        let mut state = self.state();
        if doubt.is_some() {
            state.pair_doubted.get_or_insert_with(Moment::now);
        } else if state.pair_doubted.take().is_some() {
            // Somebody was refreshed since.
            state.rejected.end();
        }
        let pause = doubt.map(|_| Pause::Refused).or(pause);
        state.pause = pause.map(|pause| (pause, Instant::now() + PAUSE));
        Ok(way)
    }

    /// What the last look found.
    pub(crate) fn last(&self) -> Way {
        self.pause().map_or(Way::Free, Way::Paused)
    }

    /// Why refreshes pause, as of the last look.
    pub(crate) fn pause(&self) -> Option<Pause> {
        let pause = self.state().pause;
        pause
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(pause, _)| pause)
    }

    /// Whether GHL refuses this broker's credentials, as of the last look.
    pub(crate) fn are_credentials_refused(&self) -> bool {
        self.state().pair_doubted.is_some()
    }

    /// Whether anything may be started at all.
    pub(crate) fn may_start(&self) -> bool {
        self.pause().is_none_or(|pause| self.may_repeat(pause))
    }

    /// Whether what GHL may have done already is asked for in spite of `pause`. What was sent before
    /// the client pair was doubted, GHL repeats no longer than its grace.
    pub(crate) fn may_repeat(&self, pause: Pause) -> bool {
        match pause {
            Pause::Overloaded => true,
            Pause::Refused => {
                let doubted = self.state().pair_doubted;
                doubted.is_some_and(|since| since.elapsed() < self.grace)
            }
        }
    }

    /// Whether the refresh that finds out about the client pair is this broker's. The others pause.
    ///
    /// # Errors
    /// When the store is away.
    pub(crate) async fn may_probe(&self) -> Result<bool, WriteError> {
        self.open(Pause::Refused, PAUSE).await
    }

    /// How often in a row an installation that is refused for the client pair now was refused alone:
    /// with somebody else refreshed since its refusal before. GHL gives the same answer for a grant
    /// that was revoked.
    pub(crate) fn refused_alone(&self, last: Option<&LastError>) -> u32 {
        let Some(last) = last.filter(|last| last.kind == FailureKind::ClientRejected.as_str())
        else {
            return 0;
        };
        let is_alone = self.state().last_success.is_some_and(|at| at > last.at);
        last.refused_alone + u32::from(is_alone)
    }

    /// An attempt that began then was granted a token.
    pub(crate) async fn succeeded(&self, began_at: Timestamp) {
        let was_doubted = {
            let mut state = self.state();
            state.rejected.end();
            state.overloaded.end();
            state.last_success = state.last_success.max(Some(began_at));
            state.pair_doubted.is_some()
        };
        if was_doubted {
            match self
                .writer
                .record_accepted_credentials(&self.credentials)
                .await
            {
                Ok(true) => info!("GHL takes the client id and secret again: refreshes go on"),
                Ok(false) => {}
                Err(error) => unshared(&error),
            }
        }
    }

    /// Pauses everybody, if `failure` is not one installation's trouble.
    pub(crate) async fn failed(&self, begun: &Begun, failure: &Failure, kind: FailureKind) {
        let id = &begun.installation;
        match failure {
            Failure::ClientRejected(reason) if kind == FailureKind::ClientRejected => {
                if self.state().rejected.goes_on(id) {
                    self.doubt_pair(reason).await;
                }
            }
            Failure::Unavailable {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after,
            } => {
                if self.state().overloaded.goes_on(id) {
                    let pause = retry_after.map_or(BREATHER, |wait| wait.min(BREATHER));
                    self.take_a_breather(pause).await;
                }
            }
            Failure::NotSent(_)
            | Failure::Lost(_)
            | Failure::Unreadable { .. }
            | Failure::Foreign { .. }
            | Failure::Unavailable { .. }
            | Failure::LocationInactive
            | Failure::ClientRejected(_)
            | Failure::InvalidGrant(_)
            | Failure::BadRequest { .. } => {}
        }
    }

    async fn doubt_pair(&self, reason: &str) {
        self.state().pair_doubted.get_or_insert_with(Moment::now);
        // In this order: who sees the doubt without the pause would probe.
        let paused = self.open(Pause::Refused, PAUSE).await;
        let doubted = match paused {
            Ok(_) => {
                self.writer
                    .record_refused_credentials(&self.credentials, reason)
                    .await
            }
            Err(error) => Err(error),
        };
        let is_news = doubted.unwrap_or_else(|error| {
            unshared(&error);
            true
        });
        if is_news {
            error!(
                reason,
                "GHL refuses this broker's client id and secret: check GHL_CLIENT_ID and \
                 GHL_CLIENT_SECRET. No installation is given up. It refreshes nothing until one try \
                 every 30 s succeeds; brokers with other credentials go on"
            );
        }
    }

    async fn take_a_breather(&self, pause: Duration) {
        match self.open(Pause::Overloaded, pause).await {
            Ok(true) => warn!(
                "GHL is overloaded (429): all refreshes pause for {}. Tokens are refreshed long \
                 before they expire: nothing is to be done unless this goes on",
                humantime::format_duration(pause)
            ),
            Ok(false) => {}
            Err(error) => unshared(&error),
        }
    }

    /// What this broker has claimed already does not wait for its next look.
    async fn open(&self, reason: Pause, pause: Duration) -> Result<bool, WriteError> {
        self.state().pause = Some((reason, Instant::now() + pause));
        let credentials = &self.credentials;
        self.writer
            .open_breaker(credentials, reason.as_str(), pause)
            .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unshared(error: &WriteError) {
    warn!(
        error = error as &dyn std::error::Error,
        "the other brokers could not be told how GHL answers"
    );
}

/// Installations that were refused for the same thing in a row.
#[derive(Debug, Default)]
struct Streak(BTreeSet<InstallationId>);

impl Streak {
    /// So many, without one success between, are not one installation's trouble.
    const LONG: usize = 3;

    /// Notes another one; true where the streak is long.
    fn goes_on(&mut self, id: &InstallationId) -> bool {
        if self.0.len() < Self::LONG {
            self.0.insert(id.clone());
        }
        self.0.len() >= Self::LONG
    }

    fn end(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_installation_alone_never_stops_the_others() {
        let mut streak = Streak::default();
        let id = InstallationId::random();
        assert!((0..100).all(|_| !streak.goes_on(&id)));
    }

    #[test]
    fn a_success_between_refusals_ends_the_streak() {
        let mut streak = Streak::default();
        for _ in 0..10 {
            assert!(!streak.goes_on(&InstallationId::random()));
            assert!(!streak.goes_on(&InstallationId::random()));
            streak.end();
        }
        let long: Vec<bool> = (0..3)
            .map(|_| streak.goes_on(&InstallationId::random()))
            .collect();
        assert_eq!(long, [false, false, true]);
    }
}
