//! The stages of a call to GHL: authenticate the caller, select the installation, and get a fresh token. Then
//! admit, send and decide, until there is a response for the caller.

pub(crate) mod admit;
mod reported_401;
pub(crate) mod retry_budget;
pub(crate) mod select;
pub(crate) mod token_requests;
pub(crate) mod unauthorized;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use store::{InstallationId, Status};
use tokio::time::{Instant, sleep};

use crate::access_log::record::RequestRecord;
use crate::admission::Priority;
use crate::admission::concurrency::Share;
use crate::admission::limit::{AdmissionRequest, Outcome as RateLimitOutcome};
use crate::admission::limited::Limited;
use crate::admission::rate_limit_headers::RateLimitHeaders;
use crate::audit::AuditQueue;
use crate::config::Config;
use crate::error::Error;
use crate::limits::Limits;
use crate::metrics::Attempts;
use crate::request::body::{Examined, Payload};
use crate::request::caller::{AuthenticatedCaller, Callers, Permission};
use crate::request::selector::{Call, InstallationSelectors};
use crate::request::{headers, path};
use crate::retry::{Attempt, Decision, Outcome, Unauthorized, decide};
use crate::token::provider::TokenProvider;
use crate::token::sources::Token;
use crate::upstream::body::Outgoing;
use crate::upstream::headers::{OutboundHeaders, passes, remove_trace};
use crate::upstream::outbound::Outbound;
use crate::upstream::{Failure, Kind, SendError, Upstream};
use admit::{Admission, AdmissionError, Admitted};
use retry_budget::RetryBudget;
use select::Selection;
use unauthorized::Persistent401s;

/// With this header the caller states that GHL handles a repeated request only once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest wait for admission that a caller may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// All stages. Clones share their state.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) callers: Arc<Callers>,
    pub(crate) selection: Selection,
    pub(crate) tokens: TokenProvider,
    pub(crate) admission: Admission,
    pub(crate) ghl: Upstream,
    pub(crate) retry_budget: Arc<RetryBudget>,
    pub(crate) persistent_401s: Arc<Persistent401s>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) audit: Arc<AuditQueue>,
}

/// A request for GHL without its body and its token.
#[derive(Debug)]
pub(crate) struct GhlRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// As the caller sent them.
    pub(crate) headers: HeaderMap,
    pub(crate) admission: AdmissionRequest,
    /// The concurrent calls that its caller may have. `None` for a caller without a key.
    pub(crate) share: Option<Share>,
    /// For the access log.
    pub(crate) record: Option<Arc<RequestRecord>>,
}

impl Pipeline {
    /// Forwards a request below `/ghl` to the same path at GHL.
    pub(crate) async fn proxy(&self, request: Request) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let path = path::checked(path.strip_prefix("/ghl").unwrap_or(path))?;
        if path::gives_tokens(path) {
            // Boxed, since it is rare and would make the future of every call larger.
            return Box::pin(self.proxy_tokens(parts, body)).await;
        }
        self.proxy_checked(parts, body, &mut None).await
    }

    /// Forwards a request whose path was checked. `used` becomes the installation whose token is used, if GHL answers with
    /// tokens.
    async fn proxy_checked(
        &self,
        parts: Parts,
        body: Body,
        used: &mut Option<InstallationId>,
    ) -> Result<Response, Error> {
        let path = parts.uri.path();
        let path = path.strip_prefix("/ghl").unwrap_or(path);
        let method = &parts.method;
        let gives_tokens = path::gives_tokens(path);
        let call = Call { method, path };
        let needed = if gives_tokens {
            Permission::Tokens
        } else {
            Permission::Call(call)
        };
        let caller = self.authenticate(&parts, needed).await?;
        let selectors = InstallationSelectors::of(&parts.headers, parts.uri.query(), Some(call));
        let payload = self.take(&parts, body, &caller, &selectors).await?;
        let examined = payload.examine(&parts);
        let token = self.token_for(&parts, &caller, selectors, examined).await?;
        if gives_tokens {
            *used = Some(token.id.clone());
        }
        let uri = self.ghl.base.uri(path, parts.uri.query(), None)?;
        self.forward(&caller, token, parts, uri, payload).await
    }

    /// The caller, if its key is live, has the permission, and its quota is not used up.
    pub(crate) async fn authenticate(
        &self,
        parts: &Parts,
        needed: Permission<'_>,
    ) -> Result<AuthenticatedCaller, Error> {
        Ok(self.callers.authenticate(parts, needed).await?)
    }

    /// The caller's body. A small one is held in memory.
    pub(crate) async fn hold(&self, parts: &Parts, body: Body) -> Result<Payload, Error> {
        let limit = self.limits.max_body_bytes();
        let patience = self.config.response_timeout;
        Ok(Payload::take(&parts.headers, body, limit, patience).await?)
    }

    /// The caller's body. A small one is held in memory. Of others, the beginning is read if the request does not
    /// say elsewhere whose token it needs.
    pub(crate) async fn take(
        &self,
        parts: &Parts,
        body: Body,
        caller: &AuthenticatedCaller,
        selectors: &InstallationSelectors<'_>,
    ) -> Result<Payload, Error> {
        let payload = self.hold(parts, body).await?;
        let limit = self.limits.max_body_bytes();
        let patience = self.config.response_timeout;
        match payload {
            Payload::Stream { .. } if !selectors.names_owner() => {
                let share = caller.share();
                let reserve = |bytes| Ok(self.admission.memory(bytes, share.as_ref())?);
                // Boxed, since it is rare and would make the future of every call larger.
                Box::pin(payload.peek(&parts.headers, limit, patience, reserve)).await
            }
            Payload::Held(_) | Payload::Stream { .. } => Ok(payload),
        }
    }

    /// A usable token of the installation that the request names.
    pub(crate) async fn token_for<'r>(
        &self,
        parts: &Parts,
        caller: &AuthenticatedCaller,
        selectors: InstallationSelectors<'r>,
        body: Examined<'r>,
    ) -> Result<Arc<Token>, Error> {
        let selectors = selectors.with_body(&body.fields);
        drop(body.fields);
        let selecting = self.selection.select(caller, &selectors, body.unexamined);
        let token = selecting.await?;
        RequestRecord::note_installation(&parts.extensions, &token);
        Ok(self.tokens.usable(token, body.held_bytes).await?)
    }

    /// Sends a caller's request to `uri` and returns the response.
    pub(crate) async fn forward(
        &self,
        caller: &AuthenticatedCaller,
        token: Arc<Token>,
        mut parts: Parts,
        uri: Uri,
        payload: Payload,
    ) -> Result<Response, Error> {
        let held = payload.held_bytes(parts.version);
        let admission = self.admission_request(caller, &parts.headers, held)?;
        if !self.config.trace_to_ghl {
            remove_trace(&mut parts.headers);
        }
        let request = GhlRequest {
            method: parts.method,
            uri,
            headers: parts.headers,
            admission,
            share: caller.share(),
            record: RequestRecord::of(&parts.extensions).cloned(),
        };
        let body = payload.into_outgoing(self.limits.max_body_bytes());
        self.call(token, request, body).await
    }

    /// The caller that a call is queued for, and the deadline.
    pub(crate) fn admission_request(
        &self,
        caller: &AuthenticatedCaller,
        headers: &HeaderMap,
        held: usize,
    ) -> Result<AdmissionRequest, Error> {
        let patience = match headers.get(headers::TIMEOUT) {
            None => self.limits.queue_timeout(),
            Some(given) => {
                let given = given.to_str().ok();
                let given = given.and_then(|given| humantime::parse_duration(given).ok());
                given.ok_or(Error::Timeout)?.min(LONGEST_WAIT)
            }
        };
        Ok(AdmissionRequest {
            caller: caller.key(),
            deadline: Instant::now() + patience,
            held,
        })
    }

    /// Admits, sends and decides, until there is a response for the caller.
    pub(crate) async fn call(
        &self,
        token: Arc<Token>,
        mut request: GhlRequest,
        body: Outgoing,
    ) -> Result<Response, Error> {
        let held_body = body.held();
        let mut attempt = Attempt::first(&request, held_body.is_some());
        let mut token = token;
        let mut next_body = Some(body);
        let mut priority = Priority::New;
        // The result of the last attempt. It is delivered if the call is not admitted again in time.
        let mut last: Option<Result<Response, SendError>> = None;
        let mut retry_until = None;
        self.retry_budget.earn();
        loop {
            let admitted = self
                .admission
                .admit(&token, request.admission, request.share.as_ref(), priority)
                .await;
            let Admitted {
                permit,
                concurrency_permit,
                token: current,
            } = match (admitted, last.take()) {
                (Ok(admitted), _) => admitted,
                (Err(error), Some(last)) if is_not_admitted_in_time(&error) => return Ok(last?),
                (Err(error), _) => return Err(error.into()),
            };
            token = current;
            let until = *retry_until.get_or_insert_with(|| {
                let patience = Instant::now() + self.config.response_timeout;
                patience.min(request.admission.deadline)
            });
            let again = || Outgoing::Held(held_body.clone().unwrap_or_default());
            let body = next_body.take().unwrap_or_else(again);
            let in_flight = permit.use_for_call();
            let sent_at = Instant::now();
            let mut answer = self.ghl.send(request.with(&token), body).await;
            in_flight.finish(rate_limit_outcome(&answer));
            let took = sent_at.elapsed();
            self.attempts.count(took, &answer);
            if let Some(record) = &request.record {
                record.note_attempt(took, &answer);
            }

            let (outcome, message) = self.examine(&mut answer, &token, &request, &attempt).await;
            attempt.jitter = outcome.jitter();
            attempt.time_left = until.saturating_duration_since(Instant::now());
            match decide(outcome, &attempt) {
                Decision::RetryAfter(pause) if self.retry_budget.spend() => {
                    drop(concurrency_permit);
                    self.attempts.repeated.increment(1);
                    last = Some(hold(answer).await);
                    sleep(pause).await;
                    attempt.retries += 1;
                }
                Decision::QueueAgain => {
                    drop(concurrency_permit);
                    last = Some(hold(answer).await);
                    priority = Priority::Again;
                }
                Decision::RetryUncompressed => {
                    drop(concurrency_permit);
                    let identity = HeaderValue::from_static("identity");
                    request.headers.insert(ACCEPT_ENCODING, identity);
                    attempt.is_uncompressed = true;
                }
                decision @ (Decision::RefreshAndRetry | Decision::RefreshAndRefuse) => {
                    drop((concurrency_permit, answer));
                    let held = request.admission.held;
                    token = Box::pin(self.tokens.newer_than(&token, held)).await?;
                    attempt.is_refreshed = true;
                    if decision == Decision::RefreshAndRefuse {
                        // If the fresh token does not help either, the next call gets GHL's 401.
                        self.note_persistent_401(&token, &request, message.as_deref());
                        return Err(Error::TokenRefreshed);
                    }
                }
                Decision::RetryAfter(_) | Decision::Deliver => {
                    self.attempts.count_cure(&attempt, &outcome);
                    if attempt.is_refreshed && matches!(outcome, Outcome::Unauthorized(_)) {
                        self.note_persistent_401(&token, &request, message.as_deref());
                    }
                    return Ok(concurrency_permit.until_the_end_of(answer?));
                }
            }
        }
    }

    /// The outcome of an attempt, and the message of a 401.
    async fn examine(
        &self,
        answer: &mut Result<Response, SendError>,
        token: &Token,
        request: &GhlRequest,
        attempt: &Attempt,
    ) -> (Outcome, Option<Box<str>>) {
        let response = match answer {
            Ok(response) => response,
            Err(SendError::Peer(Failure {
                kind: Kind::ConnectionLost,
                ..
            })) => {
                return (Outcome::ConnectionLost, None);
            }
            Err(_) => return (Outcome::Failed, None),
        };
        let status = response.status();
        if status != StatusCode::UNAUTHORIZED {
            self.persistent_401s
                .forget(&token.id, &request.method, request.uri.path());
            return (Outcome::answered(response), None);
        }
        if token.status == Status::Static {
            return (Outcome::Unauthorized(Unauthorized::Final), None);
        }
        // Boxed, since it is rare and would make the future of every call larger.
        let examining =
            unauthorized::examine(std::mem::take(response), self.config.response_timeout);
        let (whole, mut meaning, message) = Box::pin(examining).await;
        *response = whole;
        // A compressed 401 has no message. It is compared without one if no uncompressed response can be had.
        let is_compressed = meaning == Unauthorized::Compressed;
        let is_known = (!is_compressed || attempt.is_uncompressed || !attempt.is_replayable)
            && self.persistent_401s.has(
                token,
                &request.method,
                request.uri.path(),
                message.as_deref().unwrap_or_default(),
            );
        if is_known {
            meaning = Unauthorized::Final;
        }
        (Outcome::Unauthorized(meaning), message)
    }

    fn note_persistent_401(&self, token: &Token, request: &GhlRequest, message: Option<&str>) {
        let message = message.unwrap_or_default();
        self.persistent_401s
            .note(token, &request.method, request.uri.path(), message);
    }
}

impl GhlRequest {
    /// The request with the token in it.
    fn with<'r>(&'r self, token: &'r Token) -> Outbound<'r> {
        Outbound {
            method: &self.method,
            uri: &self.uri,
            headers: OutboundHeaders::ToGhl {
                callers: &self.headers,
                bearer: &token.bearer,
            },
        }
    }

    /// Whether sending it twice has the same effect as sending it once.
    fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() || passes(&self.headers, &IDEMPOTENCY_KEY)
    }
}

impl Attempt {
    fn first(request: &GhlRequest, is_replayable: bool) -> Self {
        Self {
            retries: 0,
            is_replayable,
            is_idempotent: request.is_idempotent(),
            is_uncompressed: false,
            is_refreshed: false,
            time_left: Duration::ZERO,
            jitter: 0.0,
        }
    }
}

impl Outcome {
    fn answered(response: &Response) -> Self {
        let retry_after = response.headers().get(RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Answered {
            status: response.status(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// From 0 to 1. Random bytes cost a system call, so successes get 0.
    fn jitter(&self) -> f64 {
        match self {
            Self::Answered { status, .. } if !status.is_server_error() => 0.0,
            Self::Answered { .. } | Self::ConnectionLost | Self::Failed | Self::Unauthorized(_) => {
                f64::from(store::random::bytes::<1>()[0]) / 255.0
            }
        }
    }
}

/// The effect of an attempt on GHL's rate limit.
fn rate_limit_outcome(answer: &Result<Response, SendError>) -> RateLimitOutcome {
    match answer {
        Ok(answer) => {
            RateLimitOutcome::Answered(RateLimitHeaders::by(answer.status(), answer.headers()))
        }
        Err(SendError::Peer(failure)) => match failure.kind {
            Kind::Unreachable | Kind::ConnectTimeout => RateLimitOutcome::NotSent,
            Kind::ResponseTimeout | Kind::ConnectionLost | Kind::Malformed => {
                RateLimitOutcome::Unknown
            }
        },
        Err(SendError::Body(_)) => RateLimitOutcome::Unknown,
    }
}

/// Frees the connection of a response whose call waits.
async fn hold(answer: Result<Response, SendError>) -> Result<Response, SendError> {
    // Boxed, since it is rare and would make the future of every call larger.
    Ok(Box::pin(unauthorized::hold(answer?)).await)
}

/// Whether a call is not admitted again in time.
fn is_not_admitted_in_time(error: &AdmissionError) -> bool {
    matches!(
        error,
        AdmissionError::Limited(Limited::Interval { .. } | Limited::Full { .. })
            | AdmissionError::Overloaded(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, key: Option<&'static str>) -> GhlRequest {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        GhlRequest {
            method,
            uri: Uri::from_static("http://ghl/"),
            headers,
            admission: AdmissionRequest {
                caller: None,
                deadline: Instant::now(),
                held: 0,
            },
            share: None,
            record: None,
        }
    }

    #[test]
    fn request_is_idempotent_by_method_or_idempotency_key() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            assert!(request(method, None).is_idempotent());
        }
        for method in [Method::POST, Method::PATCH] {
            assert!(!request(method.clone(), None).is_idempotent());
            let mut with_key = request(method, Some("7"));
            assert!(with_key.is_idempotent());
            let unsent = HeaderValue::from_static("idempotency-key");
            with_key.headers.insert(http::header::CONNECTION, unsent);
            assert!(!with_key.is_idempotent());
        }
    }
}
