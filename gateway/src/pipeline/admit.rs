//! Admission: a call waits until it has a concurrency permit, a rate limit permit, and a token that has not expired.

use std::sync::Arc;

use metrics::Counter;

use crate::admission::Priority;
use crate::admission::concurrency::{
    Concurrency, ConcurrencyPermit, Overloaded, QueueMemoryPermit, Share,
};
use crate::admission::limit::{AdmissionRequest, Permit};
use crate::admission::limited::Limited;
use crate::token::freshness::is_alive;
use crate::token::provider::{TokenError, TokenProvider};
use crate::token::sources::Token;

/// Admits calls. Clones share everything.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) concurrency: Concurrency,
    pub(crate) tokens: TokenProvider,
    pub(crate) shed: Counter,
}

/// Everything that a call needs to be sent to GHL.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    pub(crate) concurrency_permit: ConcurrencyPermit,
    pub(crate) token: Arc<Token>,
}

/// Why a call is not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Admission {
    /// Waits for all three. A call holds no concurrency permit while it waits for its rate limit or its token. It
    /// keeps its rate limit permit while it waits for the others.
    pub(crate) async fn admit(
        &self,
        token: &Arc<Token>,
        request: AdmissionRequest,
        share: Option<&Share>,
        priority: Priority,
    ) -> Result<Admitted, AdmissionError> {
        let (mut token, mut rate_permit) = (Arc::clone(token), None);
        loop {
            let concurrency_permit = match self.concurrency.try_acquire(share) {
                Some(permit) => permit,
                None => self.wait_for_concurrency(request, share).await?,
            };
            rate_permit = rate_permit.or_else(|| token.limit.try_permit());
            let is_alive = is_alive(&token, self.tokens.now());
            if is_alive && let Some(permit) = rate_permit {
                return Ok(Admitted {
                    permit,
                    concurrency_permit,
                    token,
                });
            }
            drop(concurrency_permit);
            if is_alive {
                // Boxed, since it is rare and would make the future of every call larger.
                let (permit, current) =
                    Box::pin(self.wait_for_rate_limit(&token, request, share, priority)).await?;
                (rate_permit, token) = (Some(permit), current);
            } else {
                let current = self.tokens.current(&token.id).await?;
                token = self.tokens.usable(current, request.held).await?;
            }
        }
    }

    async fn wait_for_concurrency(
        &self,
        request: AdmissionRequest,
        share: Option<&Share>,
    ) -> Result<ConcurrencyPermit, AdmissionError> {
        // Boxed, since it is rare and would make the future of every call larger.
        let permit = Box::pin(async {
            let _memory = self.memory(request.held, share)?;
            let permit = self.concurrency.acquire(request.deadline, share).await;
            permit.inspect_err(|_| self.shed.increment(1))
        });
        Ok(permit.await?)
    }

    /// The token may have become old meanwhile, so it is checked again.
    async fn wait_for_rate_limit(
        &self,
        token: &Arc<Token>,
        request: AdmissionRequest,
        share: Option<&Share>,
        priority: Priority,
    ) -> Result<(Permit, Arc<Token>), AdmissionError> {
        let memory = self.memory(request.held, share)?;
        let permit = token.limit.wait_for_permit(request, priority).await?;
        drop(memory);
        let current = self.tokens.current(&token.id).await?;
        Ok((permit, self.tokens.usable(current, request.held).await?))
    }

    /// Reserves memory for a waiting call whose body has this many `bytes`.
    pub(crate) fn memory(
        &self,
        bytes: usize,
        share: Option<&Share>,
    ) -> Result<QueueMemoryPermit, Overloaded> {
        let memory = self.concurrency.reserve_memory(bytes, share);
        memory.inspect_err(|_| self.shed.increment(1))
    }
}
