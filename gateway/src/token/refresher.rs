//! Asks a broker to refresh a token: one request for all calls that need it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use service::locks::lock;
use store::{Generation, InstallationId, TokenReader};
use tokio::time::{Instant, timeout};
use tracing::{Span, debug};

use super::cache::Cache;
use super::sources::Tokens;
use crate::upstream::Upstream;
use crate::upstream::body::{Outgoing, read};
use crate::upstream::headers::Sent;
use crate::upstream::outbound::Outbound;

/// How long one request to the broker may take. It is asked again after that, perhaps another
/// replica: asking twice for one generation is harmless.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a generation that did not come is not asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Requests for refreshes under way, one for each installation.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerAnswer {
    Done,
    /// The installation cannot be refreshed.
    Refused,
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

    /// Joins the request under way, or begins one; `None` where one has just been in vain.
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

    /// In a task of its own: a caller that goes away takes nothing from the others.
    fn begin(
        self: Arc<Self>,
        id: InstallationId,
        generation: Generation,
    ) -> Shared<BoxFuture<'static, BrokerAnswer>> {
        let request = self.request(&id, generation);
        let asking = tokio::spawn(async move {
            let answer = match request {
                Ok(request) => self.post(&id, &request).await,
                Err(_) => BrokerAnswer::Failed,
            };
            // Also after a failure, since the announcement may be late.
            self.tokens
                .invalidate(&id, |held| held.generation <= generation);
            self.end(&id, generation);
            answer
        });
        asking
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
        let pass = HeaderValue::try_from(self.reader.sign_refresh_request(id, generation))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.broker.base.uri(&path, Some(&query), None)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, pass);
        service::trace::inject(&Span::current(), headers);
        Ok(request)
    }

    async fn post(&self, id: &InstallationId, request: &Request<()>) -> BrokerAnswer {
        let outbound = Outbound {
            method: request.method(),
            uri: request.uri(),
            headers: Sent::ToBroker(request.headers()),
        };
        let sending = self.broker.send(outbound, Outgoing::empty());
        let response = match timeout(BROKER_PATIENCE, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                debug!(installation = %id, %error, "the broker cannot be asked");
                return BrokerAnswer::Failed;
            }
            Err(_) => return BrokerAnswer::Failed,
        };
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = read(response.into_body(), 64 * 1024, BROKER_PATIENCE).await;
        match status {
            status if status.is_success() => BrokerAnswer::Done,
            StatusCode::CONFLICT => BrokerAnswer::Refused,
            status => {
                debug!(installation = %id, %status, "the broker did not refresh");
                BrokerAnswer::Failed
            }
        }
    }
}
