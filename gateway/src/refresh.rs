//! Asking the broker for a fresh token, and waiting for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use store::{Generation, InstallationId, TokenReader};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{Span, debug};

use crate::Core;
use crate::body::{Outgoing, read};
use crate::cache::Cache;
use crate::error::{Chain, Error};
use crate::guard::{Verdict, judge};
use crate::headers::Sent;
use crate::locked;
use crate::pool::Outbound;
use crate::token::{Token, Tokens};
use crate::upstream::Upstream;

/// How long one request to the broker may take. It is asked again after that, perhaps another
/// replica: asking twice for one generation is harmless.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a generation that did not come is not asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the token is looked at while waiting: it may come by another broker than the one
/// that was asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long an installation's 401s count as no sign of an expired token, after a fresh one was
/// refused as well.
const UNCURED: Duration = Duration::from_secs(10);

/// How much a caller has to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The token at hand works: it is used as soon as the refresh fails or takes long.
    Can,
    /// It does not: only a fresh one will do.
    Must,
}

/// Requests for refreshes under way, one for each installation.
pub(crate) struct Refresher {
    broker: Upstream,
    reader: TokenReader,
    tokens: Cache<Tokens>,
    flights: Mutex<HashMap<InstallationId, Flight>>,
    uncured: Mutex<HashMap<InstallationId, (Generation, Instant)>>,
}

#[derive(Clone)]
struct Flight {
    generation: Generation,
    started: Instant,
    ended: Option<Instant>,
    answer: Shared<BoxFuture<'static, Answer>>,
}

/// What the broker said. Only the store says whether there is a fresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    /// The installation cannot be refreshed.
    Refused,
    Failed,
}

impl Core {
    /// Another token than `old`, which will not do, for a call of which so many bytes are `held` in memory.
    pub(crate) async fn newer_than(&self, old: &Token, held: usize) -> Result<Arc<Token>, Error> {
        let current = self.tokens.get(&old.id).await?;
        let fresh = match current {
            Some(current) if current.has_moved_on_from(old) => current,
            _ => self.successor(old, Urgency::Must, held).await?,
        };
        match judge(&fresh, self.reader.now()) {
            Verdict::Refuse(why) => Err(Error::Refused {
                id: fresh.id.clone(),
                why,
            }),
            _ if fresh.is_another_than(old) => Ok(fresh),
            Verdict::Use | Verdict::RefreshFirst | Verdict::RefreshOrFail => {
                Err(Error::NoFreshToken)
            }
        }
    }

    /// The installation's token as soon as it is another than `old`, or what there is when waiting
    /// for that has come to an end. Whoever has a token that works does not wait where there is no room
    /// for it and the bytes of its call that are `held` in memory.
    pub(crate) async fn successor(
        &self,
        old: &Token,
        urgency: Urgency,
        held: usize,
    ) -> Result<Arc<Token>, Error> {
        let room = match urgency {
            Urgency::Must => Some(self.room(held)?),
            Urgency::Can => self.load.wait_with(held).ok(),
        };
        let must_by = Instant::now() + self.config.expired_wait;
        loop {
            let flight = self.refresher.ask(&old.id, old.generation);
            let deadline = match (&flight, urgency) {
                (_, Urgency::Must) => must_by,
                // From the refresh's beginning: one that hangs costs its first callers this much
                // and all later ones nothing.
                (Some(flight), Urgency::Can) if room.is_some() => {
                    flight.started + self.config.refresh_wait
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
            let current = self.tokens.get(&old.id).await?.ok_or(Error::NotFound)?;
            let is_over = match answer {
                Some(Answer::Refused) => true,
                Some(Answer::Failed) => urgency == Urgency::Can,
                Some(Answer::Done) | None => false,
            };
            if is_over || current.has_moved_on_from(old) || Instant::now() >= deadline {
                return Ok(current);
            }
        }
    }
}

impl Refresher {
    pub(crate) fn new(broker: Upstream, reader: TokenReader, tokens: Cache<Tokens>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            reader,
            tokens,
            flights: Mutex::default(),
            uncured: Mutex::default(),
        })
    }

    /// Notes that this token was refused although it is fresh.
    pub(crate) fn note_uncured(&self, token: &Token) {
        let mut uncured = locked(&self.uncured);
        uncured.retain(|_, (_, since)| since.elapsed() < UNCURED);
        uncured.insert(token.id.clone(), (token.generation, Instant::now()));
    }

    /// Whether this token was refused a moment ago although it was fresh.
    pub(crate) fn is_uncured(&self, token: &Token) -> bool {
        locked(&self.uncured)
            .get(&token.id)
            .is_some_and(|(generation, since)| {
                *generation == token.generation && since.elapsed() < UNCURED
            })
    }

    /// Joins the request under way, or begins one; `None` where one has just been in vain.
    fn ask(self: &Arc<Self>, id: &InstallationId, generation: Generation) -> Option<Flight> {
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(id)
            && flight.generation == generation
        {
            match flight.ended {
                None => return Some(flight.clone()),
                Some(ended) if ended.elapsed() < PAUSE => return None,
                Some(_) => {}
            }
        }
        flights.retain(|_, flight| flight.ended.is_none_or(|ended| ended.elapsed() < PAUSE));
        let flight = Flight {
            generation,
            started: Instant::now(),
            ended: None,
            answer: Arc::clone(self).begin(id.clone(), generation),
        };
        flights.insert(id.clone(), flight.clone());
        Some(flight)
    }

    /// In a task of its own: a caller that goes away takes nothing from the others.
    fn begin(
        self: Arc<Self>,
        id: InstallationId,
        generation: Generation,
    ) -> Shared<BoxFuture<'static, Answer>> {
        let request = self.request(&id, generation);
        let asking = tokio::spawn(async move {
            let answer = match request {
                Ok(request) => self.post(&id, &request).await,
                Err(_) => Answer::Failed,
            };
            // Once for all who wait, whatever the answer: the announcement may be behind it.
            self.tokens
                .distrust(&id, |held| held.generation <= generation);
            self.end(&id, generation);
            answer
        });
        asking
            .map(|ended| ended.unwrap_or(Answer::Failed))
            .boxed()
            .shared()
    }

    fn end(&self, id: &InstallationId, generation: Generation) {
        if let Some(flight) = locked(&self.flights).get_mut(id)
            && flight.generation == generation
        {
            flight.ended = Some(Instant::now());
        }
    }

    fn request(
        &self,
        id: &InstallationId,
        generation: Generation,
    ) -> Result<Request<()>, http::Error> {
        let path = format!("/v1/installations/{id}/refresh");
        let query = format!("generation={generation}");
        let pass = HeaderValue::try_from(self.reader.sign_refresh_request(id, generation))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.broker.base.uri(&path, Some(&query), None)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, pass);
        service::trace::inject(&Span::current(), headers);
        Ok(request)
    }

    async fn post(&self, id: &InstallationId, request: &Request<()>) -> Answer {
        let outbound = Outbound {
            method: request.method(),
            uri: request.uri(),
            headers: Sent::ToBroker(request.headers()),
        };
        let sending = self.broker.send(outbound, Outgoing::empty());
        let response = match timeout(BROKER_PATIENCE, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                debug!(installation = %id, error = %Chain(&error), "the broker cannot be asked");
                return Answer::Failed;
            }
            Err(_) => return Answer::Failed,
        };
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = read(response.into_body(), 64 * 1024, BROKER_PATIENCE).await;
        match status {
            status if status.is_success() => Answer::Done,
            StatusCode::CONFLICT => Answer::Refused,
            status => {
                debug!(installation = %id, %status, "the broker did not refresh");
                Answer::Failed
            }
        }
    }
}
