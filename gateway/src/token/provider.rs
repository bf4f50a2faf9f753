//! Gives each call a usable token. Waits for a fresh one if the token is old.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram};
use store::{AppName, InstallationId, Status, Timestamp, TokenReader};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cache::{Cache, Unavailable};
use super::freshness::{Refusal, TokenDecision, decide};
use super::refresher::{BrokerAnswer, Refresher};
use super::sources::{Token, Tokens};
use crate::admission::concurrency::{Concurrency, Overloaded, QueueMemoryPermit};
use crate::limits::Limits;

/// How often a waiting call checks the token. Another broker than the one that was asked may refresh it.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The token of an agency's location is replaced ahead of its end while the location is called: in the last tenth of its
/// lifetime.
const MINT_AHEAD: u32 = 10;

/// Whether a call can go on without a fresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The current token works. It is used as soon as the refresh fails or takes too long.
    Optional,
    /// The current token does not work, so a fresh one is required.
    Required,
}

/// The tokens of a gateway. Clones share them.
#[derive(Clone)]
pub(crate) struct TokenProvider {
    pub(crate) tokens: Cache<Tokens>,
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) reader: TokenReader,
    pub(crate) concurrency: Concurrency,
    /// How long a call waits for a fresh token.
    pub(crate) limits: Arc<Limits>,
    pub(crate) shed: Counter,
    /// How long calls waited.
    pub(crate) waited: Histogram,
}

/// A reason after a colon, if there is one.
struct Because<'r>(Option<&'r str>);

impl std::fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// Why there is no usable token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Installation not found")]
    Gone,
    #[error("{why}")]
    Refused {
        id: InstallationId,
        app: AppName,
        why: Refusal,
    },
    #[error("The access token has expired, or GHL refuses it, and there is no fresh one yet{}", Because(.0.as_deref()))]
    NoFreshToken(Option<Arc<str>>),
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    #[error(transparent)]
    Store(#[from] Unavailable),
}

impl TokenProvider {
    /// The installation's token as it is now.
    pub(crate) async fn current(&self, id: &InstallationId) -> Result<Arc<Token>, TokenError> {
        self.tokens.get(id).await?.ok_or(TokenError::Gone)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.reader.now()
    }

    /// The token, refreshed first if it is old.
    pub(crate) async fn usable(
        &self,
        token: Arc<Token>,
        held: usize,
    ) -> Result<Arc<Token>, TokenError> {
        let urgency = match decide(&token, self.reader.now()) {
            TokenDecision::Use => {
                self.keep_warm(&token);
                return Ok(token);
            }
            TokenDecision::RefreshFirst => Urgency::Optional,
            TokenDecision::RefreshOrFail => Urgency::Required,
            TokenDecision::Refuse(why) => {
                return Err(TokenError::Refused {
                    id: token.id.clone(),
                    app: token.app.clone(),
                    why,
                });
            }
        };
        let (current, reason) = Box::pin(self.successor(&token, urgency, held)).await?;
        match decide(&current, self.reader.now()) {
            TokenDecision::Use | TokenDecision::RefreshFirst => Ok(current),
            TokenDecision::RefreshOrFail => Err(TokenError::NoFreshToken(reason)),
            TokenDecision::Refuse(why) => Err(TokenError::Refused {
                id: current.id.clone(),
                app: current.app.clone(),
                why,
            }),
        }
    }

    /// Asks for the next token of an agency's location before this one expires, without waiting for it. Nobody else does:
    /// such a token is minted only while its location is called.
    fn keep_warm(&self, token: &Token) {
        if token.parent.is_none() || token.status != Status::Active {
            return;
        }
        let is_near_its_end = |left| left < token.lifetime / MINT_AHEAD;
        if token.left(self.reader.now()).is_some_and(is_near_its_end) {
            // It runs in a task of its own.
            let _ = self.refresher.ask(&token.id, token.generation);
        }
    }

    /// Another token than `old`, which GHL refused. `held` is the number of bytes of the call's body in memory.
    pub(crate) async fn newer_than(
        &self,
        old: &Token,
        held: usize,
    ) -> Result<Arc<Token>, TokenError> {
        let current = self.tokens.get(&old.id).await?;
        let (fresh, reason) = match current {
            Some(current) if current.has_moved_on_from(old) => (current, None),
            _ => self.successor(old, Urgency::Required, held).await?,
        };
        match decide(&fresh, self.reader.now()) {
            TokenDecision::Refuse(why) => Err(TokenError::Refused {
                id: fresh.id.clone(),
                app: fresh.app.clone(),
                why,
            }),
            _ if fresh.is_another_than(old) => Ok(fresh),
            TokenDecision::Use | TokenDecision::RefreshFirst | TokenDecision::RefreshOrFail => {
                Err(TokenError::NoFreshToken(reason))
            }
        }
    }

    /// The installation's token once it differs from `old`, or the current one when the wait is over, with the broker's
    /// reason if it refused. `held` is the number of bytes of the call's body in memory. If waiting calls already hold all memory, a call whose token
    /// works does not wait.
    async fn successor(
        &self,
        old: &Token,
        urgency: Urgency,
        held: usize,
    ) -> Result<(Arc<Token>, Option<Arc<str>>), TokenError> {
        let memory = match urgency {
            Urgency::Required => Some(self.memory(held)?),
            Urgency::Optional => self.concurrency.reserve_memory(held, None).ok(),
        };
        let wait = match old.parent {
            Some(_) => self.limits.mint_wait(),
            None => self.limits.expired_wait(),
        };
        let began = Instant::now();
        let required_by = began + wait;
        loop {
            let flight = self.refresher.ask(&old.id, old.generation);
            let deadline = match (&flight, urgency) {
                (_, Urgency::Required) => required_by,
                // Counted from the start of the refresh. A hanging refresh delays its first callers by this
                // much, and later callers not at all.
                (Some(flight), Urgency::Optional) if memory.is_some() => {
                    flight.started + self.limits.refresh_wait()
                }
                (_, Urgency::Optional) => Instant::now(),
            };
            let next_poll = deadline.min(Instant::now() + POLL_INTERVAL);
            let answer = match flight {
                Some(flight) => timeout_at(next_poll, flight.answer).await.ok(),
                None => {
                    sleep_until(next_poll).await;
                    None
                }
            };
            let current = self.tokens.get(&old.id).await?.ok_or(TokenError::Gone)?;
            let (is_over, reason) = match answer {
                Some(BrokerAnswer::Refused(reason)) => (true, reason),
                Some(BrokerAnswer::Failed) => (urgency == Urgency::Optional, None),
                Some(BrokerAnswer::Done) | None => (false, None),
            };
            if is_over || current.has_moved_on_from(old) || Instant::now() >= deadline {
                self.waited.record(began.elapsed().as_secs_f64());
                return Ok((current, reason));
            }
        }
    }

    /// Reserves memory for a waiting call whose body has this many `bytes`.
    fn memory(&self, bytes: usize) -> Result<QueueMemoryPermit, Overloaded> {
        let memory = self.concurrency.reserve_memory(bytes, None);
        memory.inspect_err(|_| self.shed.increment(1))
    }
}
