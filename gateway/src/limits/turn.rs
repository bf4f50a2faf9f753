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
use crate::load::{Place, Room};
use crate::token::Token;

/// No call waits longer, whatever its caller says.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// All that a call needs to go to GHL.
pub(crate) struct Entered {
    pub(crate) permit: Permit,
    pub(crate) place: Place,
    pub(crate) token: Arc<Token>,
}

/// What came of a call.
pub(crate) struct Answered {
    pub(crate) response: Response,
    /// It was sent with this one.
    pub(crate) token: Arc<Token>,
    /// Whoever waits for a better answer gives it up meanwhile.
    pub(crate) place: Option<Place>,
}

impl Answered {
    /// For the caller.
    pub(crate) fn into_response(self) -> Response {
        match self.place {
            Some(place) => place.until_the_end_of(self.response),
            None => self.response,
        }
    }
}

impl Core {
    /// A caller's claim to a turn within the time it gives, for a call of which so many bytes are `held` in
    /// memory.
    pub(crate) fn claim(
        &self,
        caller: &Admitted,
        headers: &HeaderMap,
        held: usize,
    ) -> Result<Claim, Error> {
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
            held,
        })
    }

    /// Waits until the call has a place here, its turn at GHL, and a token that lives. Whoever waits for
    /// one of the others has no place meanwhile; a turn that has come is kept.
    pub(crate) async fn enter(
        &self,
        token: &Arc<Token>,
        claim: Claim,
        rank: Rank,
    ) -> Result<Entered, Error> {
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
                // Rare, so it shall not make the future of every request larger.
                let (permit, current) = Box::pin(self.wait(&token, claim, rank)).await?;
                (turn, token) = (Some(permit), current);
            } else {
                let current = self.tokens.get(&token.id).await?;
                let current = current.ok_or(Error::NotFound)?;
                token = self.usable(current, claim.held).await?;
            }
        }
    }

    async fn place(&self, claim: Claim) -> Result<Place, Error> {
        // Rare, so it shall not make the future of every request larger.
        let place = Box::pin(async {
            let _room = self.room(claim.held)?;
            let place = self.load.enter(claim.deadline).await;
            place.inspect_err(|_| self.metrics.shed.increment(1))
        });
        place.await
    }

    /// For a call that waits, with so many bytes in memory.
    pub(crate) fn room(&self, bytes: usize) -> Result<Room, Error> {
        let room = self.load.wait_with(bytes);
        room.inspect_err(|_| self.metrics.shed.increment(1))
    }

    /// Sends a call to GHL again, when it has a place, its turn, and a token that lives again.
    pub(crate) async fn send(
        &self,
        token: &Arc<Token>,
        spare: Spare<'_>,
        rank: Rank,
    ) -> Result<Answered, Error> {
        let Entered {
            permit,
            place,
            token,
        } = self.enter(token, spare.call.claim, rank).await?;
        let under_way = permit.go();
        let sent = spare.call.with(&token);
        let outcome = self.ghl.send(sent, spare.body_again()).await;
        under_way.over(&outcome);
        Ok(Answered {
            response: outcome?,
            token,
            place: Some(place),
        })
    }

    /// What to answer instead of this 429: what came of `spare`, the same request, when its turn had
    /// come again; the 429 as it came where its turn would not come in time.
    ///
    /// `spare` is missing where the body is gone.
    pub(crate) async fn send_later(
        &self,
        spare: Option<Spare<'_>>,
        mut refused: Answered,
    ) -> Result<Answered, Error> {
        let Some(spare) = spare else {
            return Ok(refused);
        };
        while refused.response.status() == StatusCode::TOO_MANY_REQUESTS {
            refused.place = None;
            let token = Arc::clone(&refused.token);
            match self.send(&token, spare, Rank::Again).await {
                Ok(answered) => refused = answered,
                Err(
                    Error::Limited(Limited::Interval { .. } | Limited::Full { .. })
                    | Error::Overloaded,
                ) => break,
                Err(error) => return Err(error),
            }
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
        let room = self.room(claim.held)?;
        let permit = token.limit.turn(claim, rank).await?;
        drop(room);
        let current = self.tokens.get(&token.id).await?.ok_or(Error::NotFound)?;
        Ok((permit, self.usable(current, claim.held).await?))
    }
}
