//! Sending a request to GHL or to the broker, and telling apart what can go wrong on the way.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::time::{Instant, timeout_at};

use super::base_url::Base;
use super::body::{BodyError, Broken, Fault, Outgoing, Progress};
use super::cause::cause;
use super::connector::Connector;
use super::outbound::Outbound;
use super::pool::{self, NoAnswer, Pool};
use super::timed_body::TimedBody;
use crate::config::Config;

/// Whom we talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Ghl,
    Broker,
}

/// One of the two other sides, with its connections.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    peer: Peer,
    pub(crate) base: Base,
    pool: Arc<Pool>,
    response_timeout: Duration,
    idle_timeout: Duration,
    total_timeout: Duration,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Peer(#[from] Failure),
    /// The fault is on the caller's side.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// A fault on the other side.
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
    /// Nothing came back in time.
    Silent,
    /// The connection ended before the answer.
    Broken,
    /// The answer is not valid HTTP. It will not be valid the next time either.
    Malformed,
}

impl Upstream {
    /// Both sides, without a connection yet. Must be called within the runtime that runs the connections.
    pub(crate) fn both(config: &Config) -> (Self, Self) {
        let connector = Connector::new(config.tls.clone(), config.connect_timeout);
        let side = |peer, base: &Base| Self {
            peer,
            base: base.clone(),
            pool: Pool::new(connector.clone(), base.origin.clone()),
            response_timeout: config.response_timeout,
            idle_timeout: config.idle_timeout,
            total_timeout: config.total_timeout,
        };
        (
            side(Peer::Ghl, &config.ghl),
            side(Peer::Broker, &config.broker),
        )
    }

    /// Sends the request and waits for the head of its answer; the body of either streams.
    ///
    /// A body on its way is not counted as silence; neither may take longer than all in all.
    /// Dropping this future drops the request.
    pub(crate) async fn send(
        &self,
        request: Outbound<'_>,
        body: Outgoing,
    ) -> Result<Response, SendError> {
        let progress = body.progress();
        let sent = Instant::now();
        let mut answering = pin!(self.pool.send(request, body));
        let ends_at = sent + self.total_timeout;
        loop {
            // It may have waited for its turn for long.
            let last_moved = progress
                .as_ref()
                .map_or(sent, |it| it.last_moved().max(sent));
            let deadline = (last_moved + self.response_timeout).min(ends_at);
            match timeout_at(deadline, &mut answering).await {
                Ok(Ok(response)) => {
                    let answer = |body| TimedBody::new(body, self.idle_timeout, ends_at);
                    return Ok(response.map(|body| axum::body::Body::new(answer(body))));
                }
                Ok(Err(error)) => {
                    let fault = progress.as_ref().and_then(|it| it.fault());
                    return Err(match fault {
                        Some(Fault::TooLarge { limit }) => BodyError::TooLarge { limit }.into(),
                        Some(Fault::Broke) => BodyError::Broke.into(),
                        None => self.explain(error),
                    });
                }
                Err(_) => match &progress {
                    Some(moving) if moving.last_moved() > last_moved && deadline < ends_at => {}
                    _ => return Err(self.silent(progress.as_deref())),
                },
            }
        }
    }

    fn silent(&self, progress: Option<&Progress>) -> SendError {
        match progress {
            Some(progress) if progress.is_waiting_for_caller() => BodyError::Stalled.into(),
            Some(_) | None => self.failure(Kind::Silent, None),
        }
    }

    fn explain(&self, error: NoAnswer) -> SendError {
        let kind = match &error {
            NoAnswer::NotConnected(reason) => {
                let io = cause::<io::Error>(&**reason);
                match io.map(io::Error::kind) {
                    Some(io::ErrorKind::TimedOut) => Kind::ConnectTimeout,
                    Some(_) | None => Kind::Unreachable,
                }
            }
            NoAnswer::Broken(pool::Error::Upgrade) => Kind::Malformed,
            NoAnswer::Broken(pool::Error::Http(reason)) if reason.is_parse() => Kind::Malformed,
            NoAnswer::Broken(reason) => match cause::<Broken>(reason) {
                Some(_) => return BodyError::Broke.into(),
                None => Kind::Broken,
            },
        };
        self.failure(kind, Some(Box::new(error)))
    }

    fn failure(&self, kind: Kind, source: Option<Box<dyn StdError + Send + Sync>>) -> SendError {
        SendError::Peer(Failure {
            peer: self.peer,
            kind,
            source,
        })
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
            Self::Silent => "did not answer in time",
            Self::Broken => "broke off before it had answered",
            Self::Malformed => "answered with what is no HTTP",
        })
    }
}
