//! Asks a broker for the installation of a location that is not known. It may be a location of an agency.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use service::single_flight::{ShortMemory, SingleFlight};
use service::trace::TraceContext;
use store::lookup_request_mac::{self, Question};
use store::{AppName, InstallationId, LocationId, TokenReader};
use tokio::time::timeout;
use tracing::{Instrument, debug};

use crate::upstream::body::{Outgoing, read};
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;
use crate::upstream::{Upstream, span_of_question};

/// GHL is asked for a token, perhaps after the agency's token was refreshed, or once GHL's limit allows it.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unknown location is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// How many unknown locations are remembered. Callers can name any number of them.
const MAX_UNKNOWN: usize = 10_000;
/// How many locations are asked for at a time. The calls of known locations need brokers, too.
const MAX_QUESTIONS: usize = 64;
/// The largest answer of a broker that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Questions to brokers, one at a time for each location.
pub(crate) struct LocationLookup {
    broker: Upstream,
    reader: TokenReader,
    questions: SingleFlight<Wanted, Found>,
    unknown: ShortMemory<Wanted>,
}

/// A location whose installation is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) location: LocationId,
    /// The agencies that may have it. All if there is none.
    pub(crate) agencies: Vec<InstallationId>,
    /// The app whose agencies may have it. `None`: any.
    pub(crate) app: Option<AppName>,
}

/// The broker's answer. `None`: the location is unknown.
type Found = Result<Option<InstallationId>, NoAnswer>;

/// No broker could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("No broker could tell whether the location belongs to an agency")]
pub(crate) struct NoAnswer;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    installation_id: InstallationId,
}

impl LocationLookup {
    pub(crate) fn new(broker: Upstream, reader: TokenReader) -> Arc<Self> {
        Arc::new(Self {
            broker,
            reader,
            questions: SingleFlight::new(MAX_QUESTIONS),
            unknown: ShortMemory::new(UNKNOWN_FOR, MAX_UNKNOWN),
        })
    }

    /// The installation of a location.
    pub(crate) async fn find(self: &Arc<Self>, wanted: Wanted) -> Found {
        if self.unknown.has(&wanted) {
            return Ok(None);
        }
        let question = {
            let (lookup, wanted) = (self.clone(), wanted.clone());
            move || lookup.ask_and_remember(wanted)
        };
        let span = span_of_question(&TraceContext::current());
        let spawn = |task: BoxFuture<'static, ()>| drop(tokio::spawn(task.instrument(span)));
        let asked = self.questions.join(wanted, question, spawn);
        // Without an answer: too many locations are asked for, or the gateway is stopping.
        asked.await.unwrap_or(Err(NoAnswer))
    }

    async fn ask_and_remember(self: Arc<Self>, wanted: Wanted) -> Found {
        let found = self.ask(&wanted).await;
        if found == Ok(None) {
            self.unknown.remember(wanted);
        }
        found
    }

    async fn ask(&self, wanted: &Wanted) -> Found {
        let request = self.request(wanted).map_err(|_| NoAnswer)?;
        let outbound = Outbound {
            method: request.method(),
            uri: request.uri(),
            headers: OutboundHeaders::ToBroker(request.headers()),
        };
        let sending = self.broker.send(outbound, Outgoing::empty());
        let response = match timeout(BROKER_TIMEOUT, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                debug!(location = %wanted.location, %error, "no broker could be asked for a location");
                return Err(NoAnswer);
            }
            Err(_) => return Err(NoAnswer),
        };
        let status = response.status();
        let body = read(response.into_body(), MAX_ANSWER, BROKER_TIMEOUT).await;
        match (status, body) {
            (status, Ok(body)) if status.is_success() => {
                let answer: Answer = serde_json::from_slice(&body).map_err(|_| NoAnswer)?;
                Ok(Some(answer.installation_id))
            }
            (StatusCode::NOT_FOUND, Ok(_)) => Ok(None),
            (status, _) => {
                debug!(location = %wanted.location, %status, "the broker could not tell whose a location is");
                Err(NoAnswer)
            }
        }
    }

    fn request(&self, wanted: &Wanted) -> Result<Request<()>, http::Error> {
        let Wanted {
            location,
            agencies,
            app,
        } = wanted;
        let path = format!("/v1/locations/{location}/lookup");
        let mut query = format!("agencies={}", lookup_request_mac::join(agencies));
        if let Some(app) = app {
            query.push_str("&app=");
            query.push_str(app.as_str());
        }
        let question = Question {
            location,
            agencies,
            app: app.as_ref(),
        };
        let mac = HeaderValue::try_from(self.reader.sign_lookup(&question))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.broker.base.uri(&path, Some(&query), None)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, mac);
        Ok(request)
    }
}
