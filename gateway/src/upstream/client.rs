//! Sends a request to GHL or to the broker, and classifies failures.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use rustls::Error as TlsError;
use service::handler::Endless;
use service::locks::lock;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::base_url::Base;
use super::body::{BodyError, BodyStreamError, Fault, Outgoing, Progress};
use super::cause::{TlsFault, cause, tls_cause};
use super::connector::{Connector, Proxies};
use super::outbound::Outbound;
use super::pool::{self, NoResponse, Pool};
use super::timed_body::TimedBody;
use crate::config::Config;
use crate::request::headers::is_event_stream;

/// How often a log line says that TLS fails.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Ghl,
    Broker,
}

/// One upstream, with its connections.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(super) peer: Peer,
    pub(crate) base: Base,
    pool: Arc<Pool>,
    response_timeout: Duration,
    idle_timeout: Duration,
    total_timeout: Duration,
    /// Whether the upstream gets the trace of a request.
    pub(super) continues_trace: bool,
    /// When a log line said last that TLS fails.
    warned_at: Arc<Mutex<Option<Instant>>>,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Peer(#[from] Failure),
    /// The fault is on the caller's side.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// A failure of the upstream.
#[derive(Debug, thiserror::Error)]
#[error("{peer} {kind}")]
pub(crate) struct Failure {
    pub(crate) peer: Peer,
    pub(crate) kind: Kind,
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unreachable,
    ConnectTimeout,
    /// No response arrived in time.
    ResponseTimeout,
    /// The connection ended before the response.
    ConnectionLost,
    /// The response is not valid HTTP. A retry would not change that.
    Malformed,
}

impl Upstream {
    /// Both upstreams, without connections yet. Must be called within the runtime that runs the connections.
    pub(crate) fn both(config: &Config) -> (Self, Self) {
        let side = |peer, base: &Base, tls: &Option<_>, proxies| Self {
            peer,
            base: base.clone(),
            pool: Pool::new(
                Connector::new(tls.clone(), proxies, config.connect_timeout),
                base.origin.clone(),
            ),
            response_timeout: config.response_timeout,
            idle_timeout: config.idle_timeout,
            total_timeout: config.total_timeout,
            continues_trace: match peer {
                Peer::Ghl => config.trace_to_ghl,
                Peer::Broker => true,
            },
            warned_at: Arc::default(),
        };
        (
            side(
                Peer::Ghl,
                &config.ghl,
                &config.ghl_tls,
                Proxies::OfTheEnvironment,
            ),
            // It is on our own network.
            side(
                Peer::Broker,
                &config.broker,
                &config.broker_tls,
                Proxies::None,
            ),
        )
    }

    /// Sends the request and waits for the head of its response. Both bodies stream.
    ///
    /// The response timeout starts anew whenever the request body makes progress. The total timeout covers both
    /// bodies. Neither it nor the idle timeout applies to a stream of events. Dropping this future cancels the request.
    pub(crate) async fn send(
        &self,
        request: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response, SendError> {
        let span = self.span_of(&request);
        if span.is_disabled() {
            return self.exchange(request, body).await;
        }
        // Boxed, since it is rare and would make the future of every call larger.
        Box::pin(self.traced(&span, request, body)).await
    }

    pub(super) async fn exchange(
        &self,
        request: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response, SendError> {
        let progress = body.progress();
        let sent = Instant::now();
        let mut answering = pin!(self.pool.send(request, body));
        let ends_at = sent + self.total_timeout;
        loop {
            // The body may have been idle for long while its call was queued.
            let last_moved = progress
                .as_ref()
                .map_or(sent, |it| it.last_moved().max(sent));
            let deadline = (last_moved + self.response_timeout).min(ends_at);
            match timeout_at(deadline, &mut answering).await {
                Ok(Ok(mut response)) => {
                    let is_endless =
                        response.status().is_success() && is_event_stream(response.headers());
                    if is_endless {
                        response.extensions_mut().insert(Endless);
                    }
                    let answer = |body| match is_endless {
                        true => TimedBody::endless(body),
                        false => TimedBody::new(body, self.idle_timeout, ends_at),
                    };
                    return Ok(response.map(|body| axum::body::Body::new(answer(body))));
                }
                Ok(Err(error)) => {
                    let fault = progress.as_ref().and_then(|it| it.fault());
                    return Err(match fault {
                        Some(Fault::TooLarge { limit }) => BodyError::TooLarge { limit }.into(),
                        Some(Fault::Broke) => BodyError::Broke.into(),
                        None => self.classify(error),
                    });
                }
                Err(_) => match &progress {
                    Some(moving)
                        if moving.last_moved() > last_moved
                            && deadline < ends_at
                            && !moving.drips() => {}
                    _ => return Err(self.timed_out(progress.as_deref())),
                },
            }
        }
    }

    fn timed_out(&self, progress: Option<&Progress>) -> SendError {
        match progress {
            Some(progress) if progress.is_waiting_for_caller() => BodyError::Stalled.into(),
            Some(_) | None => self.failure(Kind::ResponseTimeout, None),
        }
    }

    fn classify(&self, error: NoResponse) -> SendError {
        if let Some(fault) = tls_cause(&error) {
            self.warn_of(&fault);
        }
        let kind = match &error {
            NoResponse::NotConnected(reason) => {
                let io = cause::<io::Error>(&**reason);
                match io.map(io::Error::kind) {
                    Some(io::ErrorKind::TimedOut) => Kind::ConnectTimeout,
                    Some(_) | None => Kind::Unreachable,
                }
            }
            NoResponse::Broken(pool::Error::Upgrade) => Kind::Malformed,
            NoResponse::Broken(pool::Error::Http(reason)) if reason.is_parse() => Kind::Malformed,
            NoResponse::Broken(reason) => match cause::<BodyStreamError>(reason) {
                Some(_) => return BodyError::Broke.into(),
                None => Kind::ConnectionLost,
            },
        };
        self.failure(kind, Some(Box::new(error)))
    }

    /// An operator has to change something, so this must not be hidden among the failures that end by themselves.
    fn warn_of(&self, reason: &TlsFault) {
        let mut warned_at = lock(&self.warned_at);
        if warned_at.is_some_and(|at| at.elapsed() < WARNING_INTERVAL) {
            return;
        }
        *warned_at = Some(Instant::now());
        let peer = self.peer;
        match advice(reason) {
            Some(advice) => warn!(%peer, %reason, advice, "TLS fails"),
            None => warn!(%peer, %reason, "TLS fails"),
        }
    }

    fn failure(&self, kind: Kind, source: Option<Box<dyn StdError + Send + Sync>>) -> SendError {
        SendError::Peer(Failure {
            peer: self.peer,
            kind,
            source,
        })
    }
}

/// Advice to the operator, if there is any.
fn advice(fault: &TlsFault) -> Option<&'static str> {
    match fault {
        TlsFault::Local(TlsError::InvalidCertificate(_)) => Some(
            "its certificate must be valid, be for the name in its URL, and come from a CA of the system or of \
             EVERGREEN_CA_FILE",
        ),
        TlsFault::Local(TlsError::InvalidMessage(_)) => Some("it may have no TLS on this port"),
        TlsFault::Alert(text) if text.contains("Certificate") || text.contains("UnknownCA") => {
            Some(
                "it does not take our certificate: EVERGREEN_CLIENT_CERT must be of a CA in its EVERGREEN_TLS_CLIENT_CA",
            )
        }
        TlsFault::Local(_) | TlsFault::Alert(_) => None,
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ghl => "GHL",
            Self::Broker => "The broker",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "cannot be reached",
            Self::ConnectTimeout => "could not be reached in time",
            Self::ResponseTimeout => "did not answer in time",
            Self::ConnectionLost => "closed the connection before it answered",
            Self::Malformed => "did not answer with valid HTTP",
        })
    }
}
