//! The checks before every API call: injected faults, the bearer token, the rate limit, the `Version`
//! header, and the kind and the scopes of the token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ghl::operations::{self, TokenKind};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::Caller;
use super::caller::wrong_class;
use crate::app::App;
use crate::apps::app_id;
use crate::error::ApiError;
use crate::faults::{self, Call, Endpoint, Fault, Sent};
use crate::grants::Access;
use crate::ledger::ApiOutcome;
use crate::limits::Quota;
use crate::token::{Claims, Identity, Use};

/// The values of `Version` in GHL's documents.
const VERSIONS: [&str; 4] = ["2021-07-28", "2021-04-15", "2023-02-21", "v3"];

pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let claims = bearer(request.headers()).and_then(|token| app.signer.read(token, Use::Access));
    let arrival = Arrival::new(&app, claims.as_ref(), &request);
    if !arrival.latency.is_zero() {
        tokio::time::sleep(arrival.latency).await;
    }
    let sent = match &arrival.fault {
        Some(_) => Sent {
            headers: request.headers().clone(),
            body: Bytes::new(),
        },
        None => Sent::default(),
    };
    let process = async {
        let (outcome, mut response) = match arrival.admitted {
            Err((outcome, error)) => (outcome, error.into_response()),
            Ok(()) => {
                if let Some(claims) = claims {
                    request.extensions_mut().insert(Caller::new(claims));
                }
                let response = next.run(request).await;
                (outcome(response.status()), response)
            }
        };
        if let Some(quota) = arrival.quota {
            quota.describe(response.headers_mut());
        }
        app.world().calls.api.count(outcome);
        response
    };
    faults::around(arrival.fault, sent, process).await
}

/// The decisions at the arrival of a call.
struct Arrival {
    fault: Option<Fault>,
    latency: Duration,
    quota: Option<Quota>,
    admitted: Result<(), (ApiOutcome, ApiError)>,
}

impl Arrival {
    fn new(app: &App, claims: Option<&Claims>, request: &Request) -> Self {
        let now_ms = app.clock.now_ms();
        let mut world = app.world();
        let world = &mut *world;
        let mut arrival = Self {
            fault: world.faults.next_fault(Call {
                on: Endpoint::Api,
                subject: claims.map(|claims| &**claims.identity.subject.id()),
                grant: None,
                path: Some(request.uri().path()),
            }),
            latency: Duration::from_millis(world.settings.latency_ms),
            quota: None,
            admitted: Ok(()),
        };
        match &arrival.fault {
            Some(fault) if !fault.is_processed() => {
                world.calls.api.count(ApiOutcome::Faulted);
                return arrival;
            }
            Some(Fault::ProcessThenLose) => world.calls.api.answers_lost += 1,
            Some(_) | None => {}
        }
        let worth = claims.map(|claims| (claims, world.grants.access(claims, now_ms)));
        let refusal = match worth {
            None => ApiOutcome::Unknown,
            Some((_, Access::Expired)) => ApiOutcome::Expired,
            Some((_, Access::Revoked)) => ApiOutcome::Revoked,
            Some((claims, Access::Live)) => {
                let rules = world.settings.limits();
                let Identity {
                    client, subject, ..
                } = &claims.identity;
                let quota = world
                    .limits
                    .take(app_id(client), subject.id(), rules, now_ms);
                arrival.quota = Some(quota);
                if !quota.admitted && subject.location().is_none() {
                    world.companies.rate_limited(subject.company());
                }
                arrival.admitted = if quota.admitted {
                    check_version(request)
                        .and_then(|()| check_token(&claims.identity, request))
                        .map_err(|error| (ApiOutcome::Rejected, error))
                } else {
                    Err((ApiOutcome::RateLimited, too_many_requests()))
                };
                return arrival;
            }
        };
        arrival.admitted = Err((refusal, ApiError::unauthorized("Invalid JWT")));
        arrival
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

fn check_version(request: &Request) -> Result<(), ApiError> {
    match request.headers().get("version") {
        // Clients of the protocol have no reason to know GHL's versions.
        _ if request.uri().path() == ghl::mcp::PATH => Ok(()),
        None => Err(ApiError::unauthorized("version header was not found.")),
        Some(version) if VERSIONS.iter().any(|known| version == known) => Ok(()),
        Some(_) => Err(ApiError::unauthorized("version header is invalid")),
    }
}

/// Checks the kind and the scopes of the token against GHL's documents. An operation that is not in them is
/// the sandbox's own.
fn check_token(identity: &Identity, request: &Request) -> Result<(), ApiError> {
    let Some(operation) = operations::find(request.method(), request.uri().path()) else {
        return Ok(());
    };
    let is_allowed = match operation.token {
        TokenKind::Location => identity.subject.location().is_some(),
        TokenKind::Company => identity.subject.location().is_none(),
        TokenKind::Either => true,
    };
    if !is_allowed {
        return Err(wrong_class());
    }
    let is_granted = |scope: &&str| {
        let mut granted = identity.scope.split_whitespace();
        granted.any(|granted| granted == *scope)
    };
    if operation.scopes.iter().all(is_granted) {
        Ok(())
    } else {
        Err(ApiError::unauthorized(
            "The token is not authorized for this scope.",
        ))
    }
}

fn too_many_requests() -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
}

fn outcome(status: StatusCode) -> ApiOutcome {
    match status {
        StatusCode::FORBIDDEN => ApiOutcome::Forbidden,
        status if status.is_client_error() || status.is_server_error() => ApiOutcome::Rejected,
        _ => ApiOutcome::Ok,
    }
}
