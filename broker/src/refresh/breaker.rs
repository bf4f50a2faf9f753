//! The circuit breaker for GHL's token endpoint, shared by all brokers.
//!
//! It opens for two reasons:
//!
//! - **GHL refuses the client credentials.** They are then refused for every installation, so there is one
//!   alarm instead of a thousand installations that look dead. The state is in the store under the
//!   fingerprint of the credentials. A broker with a mistyped secret pauses alone. After each pause, one
//!   refresh by one broker tests the credentials. The first granted token closes the breaker.
//! - **GHL is overloaded (429).** This pause is short and ends by itself. The backoff of one installation
//!   is in its record.
//!
//! While the breaker is open, tokens whose response was lost are still retried, because GHL's grace period
//! is short.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ghl::Failure;
use http::StatusCode;
use service::locks::lock;
use store::clock::Moment;
use store::{AppName, InstallationId, Timestamp};
use store_writer::events::{Event, EventType};
use store_writer::installation::LastError;
use store_writer::writer::Begun;
use store_writer::{StoreWriter, WriteError};
use tokio::time::Instant;
use tokio::try_join;
use tracing::{error, info, warn};

use crate::metrics;
use crate::refresh::outcome::FailureKind;

/// How long all brokers pause between two tests of the client credentials.
pub(crate) const CREDENTIAL_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a 429.
const MAX_OVERLOAD_PAUSE: Duration = Duration::from_secs(10);

/// Whether refreshes may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    /// One refresh may start, on the broker that gets [`Breaker::try_acquire_probe`].
    HalfOpen,
    Open(PauseReason),
}

/// Why the breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseReason {
    /// GHL refuses the client credentials.
    ClientRejected,
    /// GHL responds with 429.
    Overloaded,
}

impl PauseReason {
    /// The text for error messages, also stored as the reason.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientRejected => "GHL refuses the client id and secret",
            Self::Overloaded => "GHL is overloaded (429)",
        }
    }

    fn of(reason: &str) -> Self {
        if reason == Self::Overloaded.as_str() {
            Self::Overloaded
        } else {
            Self::ClientRejected
        }
    }
}

/// This broker's observations, and its cached copy of the shared state.
#[derive(Debug)]
pub(crate) struct Breaker {
    writer: StoreWriter,
    /// The app whose credentials these are.
    app: AppName,
    /// The fingerprint of the client credentials.
    credentials: String,
    /// How long GHL replays the response to a spent token.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rejected: Streak,
    overloaded: Streak,
    /// The start of the last attempt that was granted a token.
    last_success: Option<Timestamp>,
    /// Since when GHL refuses the client credentials, as far as this broker knows.
    credentials_refused_since: Option<Moment>,
    /// The reason to pause, and when it expires unless a poll renews it. The store may be unreachable.
    pause: Option<(PauseReason, Instant)>,
}

impl Breaker {
    pub(crate) fn new(
        writer: StoreWriter,
        app: AppName,
        credentials: String,
        grace: Duration,
    ) -> Self {
        Self {
            writer,
            app,
            credentials,
            grace,
            state: Mutex::default(),
        }
    }

    /// Reads the shared state from the store.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub(crate) async fn poll(&self) -> Result<BreakerState, WriteError> {
        let (pause, refused) = try_join!(
            self.writer.breaker(&self.credentials),
            self.writer.refused_credentials(&self.credentials)
        )?;
        metrics::breaker(&self.app, refused.is_some());
        let pause = pause.as_deref().map(PauseReason::of);
        let breaker = match (pause, &refused) {
            (Some(pause), _) => BreakerState::Open(pause),
            (None, Some(_)) => BreakerState::HalfOpen,
            (None, None) => BreakerState::Closed,
        };
        let mut state = self.state();
        if refused.is_some() {
            state
                .credentials_refused_since
                .get_or_insert_with(Moment::now);
        } else if state.credentials_refused_since.take().is_some() {
            // A broker was granted a token meanwhile.
            state.rejected.reset();
        }
        let pause = refused.map(|_| PauseReason::ClientRejected).or(pause);
        state.pause = pause.map(|pause| (pause, Instant::now() + CREDENTIAL_PAUSE));
        Ok(breaker)
    }

    /// The state of the last poll.
    pub(crate) fn cached_state(&self) -> BreakerState {
        self.pause_reason()
            .map_or(BreakerState::Closed, BreakerState::Open)
    }

    /// Why refreshes pause, as of the last poll.
    pub(crate) fn pause_reason(&self) -> Option<PauseReason> {
        let pause = self.state().pause;
        pause
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(pause, _)| pause)
    }

    /// Whether GHL refuses this broker's credentials, as of the last poll.
    pub(crate) fn are_credentials_refused(&self) -> bool {
        self.state().credentials_refused_since.is_some()
    }

    /// Whether any attempt may start.
    pub(crate) fn may_start(&self) -> bool {
        self.pause_reason()
            .is_none_or(|pause| self.allows_retry(pause))
    }

    /// Whether a lost response may be requested again in spite of `pause`. GHL replays responses from
    /// before the refusal of the credentials only within its grace period.
    pub(crate) fn allows_retry(&self, pause: PauseReason) -> bool {
        match pause {
            PauseReason::Overloaded => true,
            PauseReason::ClientRejected => {
                let refused_since = self.state().credentials_refused_since;
                refused_since.is_some_and(|since| since.elapsed() < self.grace)
            }
        }
    }

    /// Whether this broker may send the refresh that tests the client credentials. The others pause.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub(crate) async fn try_acquire_probe(&self) -> Result<bool, WriteError> {
        self.open_shared(PauseReason::ClientRejected, CREDENTIAL_PAUSE)
            .await
    }

    /// How often in a row GHL rejected the client credentials for this installation while it accepted them
    /// for others. GHL gives the same response for a revoked grant.
    pub(crate) fn refused_alone(&self, last: Option<&LastError>) -> u32 {
        let Some(last) = last.filter(|last| last.kind == FailureKind::ClientRejected.as_str())
        else {
            return 0;
        };
        let is_alone = self.state().last_success.is_some_and(|at| at > last.at);
        last.refused_alone + u32::from(is_alone)
    }

    /// Records that an attempt was granted a token. Closes the breaker for all brokers with these
    /// credentials.
    pub(crate) async fn record_success(&self, began_at: Timestamp) {
        let was_refused = {
            let mut state = self.state();
            state.rejected.reset();
            state.overloaded.reset();
            state.last_success = state.last_success.max(Some(began_at));
            state.credentials_refused_since.is_some()
        };
        if was_refused {
            match self
                .writer
                .record_accepted_credentials(
                    &self.credentials,
                    PauseReason::ClientRejected.as_str(),
                )
                .await
            {
                Ok(true) => info!(app = %self.app,
                    "GHL accepts the client id and secret again: refreshes continue"),
                Ok(false) => {}
                Err(error) => log_not_shared(&error),
            }
        }
    }

    /// Records a failure. Opens the breaker if it concerns several installations in a row.
    pub(crate) async fn record_failure(&self, begun: &Begun, failure: &Failure, kind: FailureKind) {
        let id = &begun.installation;
        match failure {
            Failure::ClientRejected(reason) if kind == FailureKind::ClientRejected => {
                if self.state().rejected.extend(id) {
                    self.open_for_credentials(reason).await;
                }
            }
            Failure::Unavailable {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after,
            } => {
                if self.state().overloaded.extend(id) {
                    let pause =
                        retry_after.map_or(MAX_OVERLOAD_PAUSE, |wait| wait.min(MAX_OVERLOAD_PAUSE));
                    self.open_for_overload(pause).await;
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

    async fn open_for_credentials(&self, reason: &str) {
        self.state()
            .credentials_refused_since
            .get_or_insert_with(Moment::now);
        // The pause comes first: a broker that sees the refusal without the pause would probe.
        let paused = self
            .open_shared(PauseReason::ClientRejected, CREDENTIAL_PAUSE)
            .await;
        let stored = match paused {
            Ok(_) => self.record_refused(reason).await,
            Err(error) => Err(error),
        };
        let is_new = stored.unwrap_or_else(|error| {
            log_not_shared(&error);
            true
        });
        if is_new {
            error!(
                reason,
                app = %self.app,
                "GHL refuses this broker's client id and secret: check GHL_CLIENT_ID and \
                 GHL_CLIENT_SECRET, or those of the app's section. No installation becomes invalid. This broker tries one refresh every \
                 30 s until one succeeds; brokers with other credentials continue"
            );
        }
    }

    /// Records the refusal. True for the first of several concurrent refusals, which then stores an event. The record
    /// ends after an hour, so a broker that dies before its event is stored only delays the event.
    async fn record_refused(&self, reason: &str) -> Result<bool, WriteError> {
        let writer = &self.writer;
        let is_new = writer
            .record_refused_credentials(&self.credentials, reason)
            .await?;
        if is_new && let Err(error) = self.tell_refused(reason).await {
            // The next refusal stores the event. Refreshes pause until then.
            writer.forget_refused_credentials(&self.credentials).await?;
            return Err(error);
        }
        Ok(is_new)
    }

    async fn tell_refused(&self, reason: &str) -> Result<(), WriteError> {
        let now = self.writer.now().await?;
        let (app, kind) = (self.app.clone(), EventType::CredentialsRejected);
        let event = Event::about_app(app, kind, Some(reason.to_owned()), now);
        self.writer.publish_event(&event).await
    }

    async fn open_for_overload(&self, pause: Duration) {
        match self.open_shared(PauseReason::Overloaded, pause).await {
            Ok(true) => warn!(
                app = %self.app,
                "GHL is overloaded (429): all refreshes pause for {}. Tokens are refreshed long before \
                 they expire, so no action is needed unless this persists",
                humantime::format_duration(pause)
            ),
            Ok(false) => {}
            Err(error) => log_not_shared(&error),
        }
    }

    /// Opens the breaker here at once and in the store. Work that this broker has already claimed must not
    /// start before its next poll.
    async fn open_shared(&self, reason: PauseReason, pause: Duration) -> Result<bool, WriteError> {
        self.state().pause = Some((reason, Instant::now() + pause));
        let credentials = &self.credentials;
        self.writer
            .open_breaker(credentials, reason.as_str(), pause)
            .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn log_not_shared(error: &WriteError) {
    warn!(
        error = error as &dyn std::error::Error,
        "the state of GHL's token endpoint could not be shared with other brokers"
    );
}

/// Installations in a row with the same kind of refusal.
#[derive(Debug, Default)]
struct Streak(BTreeSet<InstallationId>);

impl Streak {
    /// This many, without a success between them, are not the problem of one installation.
    const THRESHOLD: usize = 3;

    /// Adds an installation. Returns whether the streak has reached the threshold.
    fn extend(&mut self, id: &InstallationId) -> bool {
        if self.0.len() < Self::THRESHOLD {
            self.0.insert(id.clone());
        }
        self.0.len() >= Self::THRESHOLD
    }

    fn reset(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_installation_never_opens_the_breaker() {
        let mut streak = Streak::default();
        let id = InstallationId::random();
        assert!((0..100).all(|_| !streak.extend(&id)));
    }

    #[test]
    fn success_resets_the_streak() {
        let mut streak = Streak::default();
        for _ in 0..10 {
            assert!(!streak.extend(&InstallationId::random()));
            assert!(!streak.extend(&InstallationId::random()));
            streak.reset();
        }
        let long: Vec<bool> = (0..3)
            .map(|_| streak.extend(&InstallationId::random()))
            .collect();
        assert_eq!(long, [false, false, true]);
    }
}
