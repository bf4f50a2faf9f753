//! Admission: a call waits until it has a place here, its turn at GHL, and a token that lives.

use std::sync::Arc;

use metrics::Counter;

use crate::admission::Priority;
use crate::admission::concurrency::{
    Concurrency, ConcurrencyPermit, Overloaded, QueueMemoryPermit,
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

/// All that a call needs to go to GHL.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    pub(crate) place: ConcurrencyPermit,
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
    /// Waits for all three. A call that waits for its turn or its token has no place meanwhile. A turn that has
    /// come is kept.
    pub(crate) async fn admit(
        &self,
        token: &Arc<Token>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> Result<Admitted, AdmissionError> {
        let (mut token, mut turn) = (Arc::clone(token), None);
        loop {
            let place = match self.concurrency.try_enter() {
                Some(place) => place,
                None => self.wait_for_place(request).await?,
            };
            turn = turn.or_else(|| token.limit.try_permit());
            let is_alive = is_alive(&token, self.tokens.now());
            if is_alive && let Some(permit) = turn {
                return Ok(Admitted {
                    permit,
                    place,
                    token,
                });
            }
            drop(place);
            if is_alive {
                // Boxed, since it is rare and would make the future of every call larger.
                let (permit, current) =
                    Box::pin(self.wait_for_turn(&token, request, priority)).await?;
                (turn, token) = (Some(permit), current);
            } else {
                let current = self.tokens.current(&token.id).await?;
                token = self.tokens.usable(current, request.held).await?;
            }
        }
    }

    async fn wait_for_place(
        &self,
        request: AdmissionRequest,
    ) -> Result<ConcurrencyPermit, AdmissionError> {
        // Boxed, since it is rare and would make the future of every call larger.
        let place = Box::pin(async {
            let _memory = self.memory(request.held)?;
            let place = self.concurrency.enter(request.deadline).await;
            place.inspect_err(|_| self.shed.increment(1))
        });
        Ok(place.await?)
    }

    /// The token may have become old meanwhile, so it is looked at again.
    async fn wait_for_turn(
        &self,
        token: &Arc<Token>,
        request: AdmissionRequest,
        priority: Priority,
    ) -> Result<(Permit, Arc<Token>), AdmissionError> {
        let memory = self.memory(request.held)?;
        let permit = token.limit.wait_for_permit(request, priority).await?;
        drop(memory);
        let current = self.tokens.current(&token.id).await?;
        Ok((permit, self.tokens.usable(current, request.held).await?))
    }

    /// Memory for a call that waits. `bytes`: of its body.
    fn memory(&self, bytes: usize) -> Result<QueueMemoryPermit, Overloaded> {
        let memory = self.concurrency.wait_with(bytes);
        memory.inspect_err(|_| self.shed.increment(1))
    }
}
