//! A call's turn: before it goes to GHL, and again after a 429.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::queue::Rank;
use super::{Claim, Limited, Permit};
use crate::Core;
use crate::caller::Admitted;
use crate::error::Error;
use crate::forward::Spare;
use crate::guard::is_alive;
use crate::headers;
use crate::load::Place;
use crate::token::Token;

/// No call waits longer, whatever its caller says.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// All that a call needs to go to GHL.
pub(crate) struct Entered {
    pub(crate) permit: Permit,
    pub(crate) place: Place,
    pub(crate) token: Arc<Token>,
}

impl Core {
    /// A caller's claim to a turn within the time it gives.
    pub(crate) fn claim(&self, caller: &Admitted, headers: &HeaderMap) -> Result<Claim, Error> {
        let patience = match headers.get(headers::TIMEOUT) {
            None => self.config.queue_timeout,
            Some(given) => {
                let given = given.to_str().ok();
                let given = given.and_then(|given| humantime::parse_duration(given).ok());
                given.ok_or(Error::Timeout)?.min(LONGEST)
            }
        };
        Ok(Claim {
            caller: caller.key(),
            deadline: Instant::now() + patience,
        })
    }

    /// Waits until the call has a place here, its turn at GHL, and a token that lives. Whoever waits for
    /// one of the others has no place meanwhile; a turn that has come is kept.
    pub(crate) async fn enter(&self, token: &Arc<Token>, claim: Claim) -> Result<Entered, Error> {
        let (mut token, mut turn) = (Arc::clone(token), None);
        loop {
            let place = match self.load.try_enter() {
                Some(place) => place,
                None => self.place(claim).await?,
            };
            turn = turn.or_else(|| token.limit.permit());
            let is_alive = is_alive(&token, self.reader.now());
            if is_alive && let Some(permit) = turn {
                return Ok(Entered {
                    permit,
                    place,
                    token,
                });
            }
            drop(place);
            if is_alive {
                let (permit, current) = self.turn(&token, claim).await?;
                (turn, token) = (Some(permit), current);
            } else {
                let current = self.tokens.get(&token.id).await?;
                token = self.usable(current.ok_or(Error::NotFound)?).await?;
            }
        }
    }

    async fn place(&self, claim: Claim) -> Result<Place, Error> {
        // Rare, so it shall not make the future of every request larger.
        let place = Box::pin(self.load.enter(claim.deadline)).await;
        place.inspect_err(|_| self.metrics.shed.increment(1))
    }

    /// Lets a call of this token's location go to GHL when its turn comes, and with which token.
    pub(crate) async fn turn(
        &self,
        token: &Arc<Token>,
        claim: Claim,
    ) -> Result<(Permit, Arc<Token>), Error> {
        match token.limit.permit() {
            Some(permit) => Ok((permit, Arc::clone(token))),
            // Rare, so it shall not make the future of every request larger.
            None => Box::pin(self.wait(token, claim, Rank::New)).await,
        }
    }

    /// Sends a call to GHL again, when its turn comes.
    pub(crate) async fn send(
        &self,
        token: &Arc<Token>,
        spare: Spare<'_>,
    ) -> Result<Response, Error> {
        let (permit, token) = self.turn(token, spare.call.claim).await?;
        let answer = self
            .ghl
            .send(spare.call.with(&token), spare.body_again())
            .await?;
        permit.answered(&answer);
        Ok(answer)
    }

    /// What to answer instead of this 429: the answer to `spare`, the same request, when its turn
    /// has come again; otherwise the 429 as it came. Over the day's limit no turn comes.
    ///
    /// `spare` is missing where the body is gone.
    pub(crate) async fn send_later(
        &self,
        token: &Arc<Token>,
        spare: Option<Spare<'_>>,
        mut refused: Response,
    ) -> Result<Response, Error> {
        let Some(spare) = spare else {
            return Ok(refused);
        };
        while refused.status() == StatusCode::TOO_MANY_REQUESTS {
            let (permit, token) = match self.wait(token, spare.call.claim, Rank::Again).await {
                Ok(turn) => turn,
                Err(Error::Limited(Limited::Interval { .. } | Limited::Full { .. })) => break,
                Err(error) => return Err(error),
            };
            refused = self
                .ghl
                .send(spare.call.with(&token), spare.body_again())
                .await?;
            permit.answered(&refused);
        }
        Ok(refused)
    }

    /// The token may have come of age meanwhile, so it is looked at again.
    async fn wait(
        &self,
        token: &Arc<Token>,
        claim: Claim,
        rank: Rank,
    ) -> Result<(Permit, Arc<Token>), Error> {
        let permit = token.limit.turn(claim, rank).await?;
        let current = self.tokens.get(&token.id).await?.ok_or(Error::NotFound)?;
        Ok((permit, self.usable(current).await?))
    }
}
