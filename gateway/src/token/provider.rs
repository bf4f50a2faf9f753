//! Gives each call a usable token. Waits for a fresh one if the token is old.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use store::{InstallationId, Timestamp, TokenReader};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cache::{Cache, Unavailable};
use super::freshness::{Refusal, TokenDecision, decide};
use super::refresher::{BrokerAnswer, Refresher};
use super::sources::{Token, Tokens};
use crate::admission::concurrency::{Concurrency, Overloaded, QueueMemoryPermit};

/// How often a waiting call looks at the token. Another broker than the one that was asked may refresh it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much a caller has to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The token at hand works: it is used as soon as the refresh fails or takes long.
    Can,
    /// It does not: only a fresh one will do.
    Must,
}

/// The tokens of a gateway. Clones share them.
#[derive(Clone)]
pub(crate) struct TokenProvider {
    pub(crate) tokens: Cache<Tokens>,
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) reader: TokenReader,
    pub(crate) concurrency: Concurrency,
    /// How long a call waits for a fresh token while the old one works, and once it does not.
    pub(crate) refresh_wait: Duration,
    pub(crate) expired_wait: Duration,
    pub(crate) shed: Counter,
}

/// Why there is no token to be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Installation not found")]
    Gone,
    #[error("{why}")]
    Refused { id: InstallationId, why: Refusal },
    #[error("The access token has expired and no fresh one could be had yet")]
    NoFreshToken,
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
            TokenDecision::Use => return Ok(token),
            TokenDecision::RefreshFirst => Urgency::Can,
            TokenDecision::RefreshOrFail => Urgency::Must,
            TokenDecision::Refuse(why) => {
                return Err(TokenError::Refused {
                    id: token.id.clone(),
                    why,
                });
            }
        };
        let current = Box::pin(self.successor(&token, urgency, held)).await?;
        match decide(&current, self.reader.now()) {
            TokenDecision::Use | TokenDecision::RefreshFirst => Ok(current),
            TokenDecision::RefreshOrFail => Err(TokenError::NoFreshToken),
            TokenDecision::Refuse(why) => Err(TokenError::Refused {
                id: current.id.clone(),
                why,
            }),
        }
    }

    /// Another token than `old`, which GHL refused. `held`: the bytes of the call's body in memory.
    pub(crate) async fn newer_than(
        &self,
        old: &Token,
        held: usize,
    ) -> Result<Arc<Token>, TokenError> {
        let current = self.tokens.get(&old.id).await?;
        let fresh = match current {
            Some(current) if current.has_moved_on_from(old) => current,
            _ => self.successor(old, Urgency::Must, held).await?,
        };
        match decide(&fresh, self.reader.now()) {
            TokenDecision::Refuse(why) => Err(TokenError::Refused {
                id: fresh.id.clone(),
                why,
            }),
            _ if fresh.is_another_than(old) => Ok(fresh),
            TokenDecision::Use | TokenDecision::RefreshFirst | TokenDecision::RefreshOrFail => {
                Err(TokenError::NoFreshToken)
            }
        }
    }

    /// The installation's token once it differs from `old`, or the current one when the wait is over. `held`: the
    /// bytes of the call's body in memory. If waiting calls already hold all memory, a call whose token works does
    /// not wait.
    async fn successor(
        &self,
        old: &Token,
        urgency: Urgency,
        held: usize,
    ) -> Result<Arc<Token>, TokenError> {
        let memory = match urgency {
            Urgency::Must => Some(self.memory(held)?),
            Urgency::Can => self.concurrency.wait_with(held).ok(),
        };
        let must_by = Instant::now() + self.expired_wait;
        loop {
            let flight = self.refresher.ask(&old.id, old.generation);
            let deadline = match (&flight, urgency) {
                (_, Urgency::Must) => must_by,
                // From the refresh's beginning: one that hangs costs its first callers this much
                // and all later ones nothing.
                (Some(flight), Urgency::Can) if memory.is_some() => {
                    flight.started + self.refresh_wait
                }
                (_, Urgency::Can) => Instant::now(),
            };
            let next_look = deadline.min(Instant::now() + LOOK_EVERY);
            let answer = match flight {
                Some(flight) => timeout_at(next_look, flight.answer).await.ok(),
                None => {
                    sleep_until(next_look).await;
                    None
                }
            };
            let current = self.tokens.get(&old.id).await?.ok_or(TokenError::Gone)?;
            let is_over = match answer {
                Some(BrokerAnswer::Refused) => true,
                Some(BrokerAnswer::Failed) => urgency == Urgency::Can,
                Some(BrokerAnswer::Done) | None => false,
            };
            if is_over || current.has_moved_on_from(old) || Instant::now() >= deadline {
                return Ok(current);
            }
        }
    }

    /// Memory for a call that waits. `bytes`: of its body.
    fn memory(&self, bytes: usize) -> Result<QueueMemoryPermit, Overloaded> {
        let memory = self.concurrency.wait_with(bytes);
        memory.inspect_err(|_| self.shed.increment(1))
    }
}
