//! Sending a request to GHL or to the broker, and telling apart what can go wrong on the way.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::listen::BUFFER_BYTES;
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::body::{Broken, Outgoing, Progress};
use crate::config::Config;
use crate::connector::Connector;
use crate::error::Error;
use crate::path::Base;

/// Shorter than what common servers and balancers allow an idle connection, so that it is almost
/// always we who close it, and no request is sent into a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

type HttpClient = Client<Connector, Outgoing>;

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
    client: HttpClient,
    response_timeout: Duration,
    idle_timeout: Duration,
    total_timeout: Duration,
}

/// Why there is no answer.
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
}

impl Upstream {
    /// Both sides over one pool of connections.
    pub(crate) fn both(config: &Config) -> (Self, Self) {
        let connector = Connector::new(config.tls.clone(), config.connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(BUFFER_BYTES)
            .build(connector);
        let side = |peer, base: &Base| Self {
            peer,
            base: base.clone(),
            client: client.clone(),
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
    /// A body on its way is not counted as silence; neither may take longer than all in all. Dropping this future drops the request.
    pub(crate) async fn send(&self, request: Request<Outgoing>) -> Result<Response, Error> {
        let progress = request.body().progress();
        let sent = Instant::now();
        let mut answering = self.client.request(request);
        let ends_at = sent + self.total_timeout;
        loop {
            let last_moved = progress.as_ref().map_or(sent, |it| it.last_moved());
            let deadline = (last_moved + self.response_timeout).min(ends_at);
            match timeout_at(deadline, &mut answering).await {
                Ok(Ok(response)) => {
                    let answer = |body| Answer::new(body, self.idle_timeout, ends_at);
                    return Ok(response.map(|body| axum::body::Body::new(answer(body))));
                }
                Ok(Err(error)) => return Err(self.explain(error)),
                Err(_) => match &progress {
                    Some(moving) if moving.last_moved() > last_moved && deadline < ends_at => {}
                    _ => return Err(self.silent(progress.as_deref())),
                },
            }
        }
    }

    fn silent(&self, progress: Option<&Progress>) -> Error {
        match progress {
            Some(progress) if progress.is_waiting_for_caller() => Error::BodyStalled,
            Some(_) | None => self.failure(Kind::Silent, None),
        }
    }

    fn explain(&self, error: legacy::Error) -> Error {
        if let Some(broken) = cause::<Broken>(&error) {
            return match broken {
                Broken::TooLarge { limit } => Error::TooLarge { limit: *limit },
                Broken::Caller(_) => Error::BodyBroke,
            };
        }
        let is_timeout = cause::<io::Error>(&error)
            .is_some_and(|reason| reason.kind() == io::ErrorKind::TimedOut);
        let kind = match (error.is_connect(), is_timeout) {
            (true, true) => Kind::ConnectTimeout,
            (true, false) => Kind::Unreachable,
            (false, _) => Kind::Broken,
        };
        self.failure(kind, Some(Box::new(error)))
    }

    fn failure(&self, kind: Kind, source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::Upstream(Failure {
            peer: self.peer,
            kind,
            source,
        })
    }
}

fn cause<E: StdError + 'static>(error: &legacy::Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(found) = source.downcast_ref() {
            return Some(found);
        }
        cause = source.source();
    }
    None
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
        })
    }
}
