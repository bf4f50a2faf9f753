//! Asks a broker to refresh a token, with one request for all calls that need it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use service::locks::lock;
use service::trace::TraceContext;
use store::{Generation, InstallationId, TokenReader};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug};

use super::cache::Cache;
use super::sources::Tokens;
use crate::upstream::body::{Outgoing, read};
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;
use crate::upstream::{Upstream, span_of_question};

/// How long one request to the broker may take. After that it is sent again, perhaps to another replica. Asking
/// twice for one generation is harmless.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a failed refresh request is not repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// Refresh requests in flight, one for each installation.
pub(crate) struct Refresher {
    broker: Upstream,
    reader: TokenReader,
    tokens: Cache<Tokens>,
    flights: Mutex<HashMap<InstallationId, Flight>>,
}

#[derive(Clone)]
pub(super) struct Flight {
    generation: Generation,
    pub(super) started: Instant,
    ended: Option<Instant>,
    pub(super) answer: Shared<BoxFuture<'static, BrokerAnswer>>,
}

/// The broker's answer. Only the store says whether there is a fresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BrokerAnswer {
    Done,
    /// The installation cannot be refreshed, for this reason.
    Refused(Option<Arc<str>>),
    Failed,
}

impl Refresher {
    pub(crate) fn new(broker: Upstream, reader: TokenReader, tokens: Cache<Tokens>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            reader,
            tokens,
            flights: Mutex::default(),
        })
    }

    /// Joins the request in flight, or begins one. `None` if one has just failed.
    pub(super) fn ask(
        self: &Arc<Self>,
        id: &InstallationId,
        generation: Generation,
    ) -> Option<Flight> {
        let mut flights = lock(&self.flights);
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

    /// Runs in its own task, so that a cancelled call does not affect the others.
    fn begin(
        self: Arc<Self>,
        id: InstallationId,
        generation: Generation,
    ) -> Shared<BoxFuture<'static, BrokerAnswer>> {
        let request = self.request(&id, generation);
        let span = span_of_question(&TraceContext::current());
        let asking = async move {
            let answer = match request {
                Ok(request) => self.post(&id, &request).await,
                Err(_) => BrokerAnswer::Failed,
            };
            // Also after a failure, since the announcement may be late.
            self.tokens
                .invalidate(&id, |held| held.generation <= generation);
            self.end(&id, generation);
            answer
        };
        tokio::spawn(asking.instrument(span))
            .map(|ended| ended.unwrap_or(BrokerAnswer::Failed))
            .boxed()
            .shared()
    }

    fn end(&self, id: &InstallationId, generation: Generation) {
        if let Some(flight) = lock(&self.flights).get_mut(id)
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
        let mac = HeaderValue::try_from(self.reader.sign_refresh_request(id, generation))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.broker.base.uri(&path, Some(&query), None)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, mac);
        Ok(request)
    }

    async fn post(&self, id: &InstallationId, request: &Request<()>) -> BrokerAnswer {
        let outbound = Outbound {
            method: request.method(),
            uri: request.uri(),
            headers: OutboundHeaders::ToBroker(request.headers()),
        };
        let sending = self.broker.send(outbound, Outgoing::empty());
        let response = match timeout(BROKER_TIMEOUT, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                debug!(installation = %id, %error, "the refresh request to the broker failed");
                return BrokerAnswer::Failed;
            }
            Err(_) => return BrokerAnswer::Failed,
        };
        let status = response.status();
        // Also read for its connection, which can be used again then.
        let body = read(response.into_body(), 64 * 1024, BROKER_TIMEOUT).await;
        match status {
            status if status.is_success() => BrokerAnswer::Done,
            StatusCode::CONFLICT => {
                BrokerAnswer::Refused(body.ok().and_then(|body| message(&body)))
            }
            status => {
                debug!(installation = %id, %status, "the broker did not refresh");
                BrokerAnswer::Failed
            }
        }
    }
}

/// The broker's words for a caller. They contain no secrets.
fn message(body: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    Some(answer.message.into())
}
