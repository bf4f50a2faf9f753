//! `/oauth`: the token endpoint, and the endpoints for agencies.

mod request;
pub(crate) mod token_response;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderValue};

use crate::app::App;
use crate::error::ApiError;
use crate::faults::{self, Alteration, Call, Endpoint, Fault, GrantType, Sent};
use crate::grants::{Issue, Presentation, Refusal, Rotation};
use crate::ledger::TokenOutcome;
use crate::token::{Claims, Use};
pub(crate) use request::Spelling;
use request::{Presented, TokenRequest, invalid_client};

/// `POST /oauth/token`.
pub(crate) async fn token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let spelling = Spelling::of(&headers);
    let request = TokenRequest::read(&app.apps, &headers, &body, spelling);
    // Check the signature without the lock.
    let claims = match request.as_ref().map(|request| &request.presented) {
        Ok(Presented::RefreshToken(token)) => app.signer.read(token, Use::Refresh),
        Ok(Presented::Code { .. }) | Err(_) => None,
    };
    let fault = find_fault(&app, request.as_ref().ok(), claims.as_ref());
    let rotation = match &fault {
        Some(Fault::Alter(Alteration::WithoutRefreshToken)) => Rotation::Keep,
        Some(_) | None => Rotation::Rotate,
    };
    let process = async {
        let result = request.and_then(|request| exchange(&app, request, claims, rotation));
        match result {
            Ok((issue, token_bytes)) => {
                let json = token_response::of_grant(&app, &issue, token_bytes);
                let json = spelling.spell(json);
                let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                (no_store, Json(json)).into_response()
            }
            Err((outcome, error)) => {
                app.world().calls.token.count(outcome);
                error.into_response()
            }
        }
    };
    let sent = Sent {
        headers: headers.clone(),
        body: body.clone(),
    };
    faults::around(fault, sent, process).await
}

fn find_fault(app: &App, request: Option<&TokenRequest>, claims: Option<&Claims>) -> Option<Fault> {
    let now_ms = app.clock.now_ms();
    let mut world = app.world();
    let world = &mut *world;
    let (subject, grant) = match request.map(|request| &request.presented) {
        None => (None, None),
        Some(Presented::Code { code, .. }) => (
            world
                .grants
                .consented(code, now_ms)
                .map(|consent| &consent.identity.subject),
            Some(GrantType::AuthorizationCode),
        ),
        Some(Presented::RefreshToken(_)) => (
            claims.map(|claims| &claims.identity.subject),
            Some(GrantType::RefreshToken),
        ),
    };
    let call = Call {
        on: Endpoint::Token,
        subject: subject.map(|subject| &**subject.id()),
        grant,
        path: None,
    };
    let fault = world.faults.next_fault(call);
    match &fault {
        Some(fault) if !fault.is_processed() => world.calls.token.count(TokenOutcome::Faulted),
        Some(Fault::ProcessThenLose) => world.calls.token.answers_lost += 1,
        Some(_) | None => {}
    }
    fault
}

/// Issues and counts the tokens. Also returns the size of access tokens.
fn exchange(
    app: &App,
    request: TokenRequest,
    claims: Option<Claims>,
    rotation: Rotation,
) -> Result<(Issue, usize), (TokenOutcome, ApiError)> {
    let serial = app.ids.serial();
    let now_ms = app.clock.now_ms();
    let mut world = app.world();
    let world = &mut *world;
    let rules = world.settings.grants();
    let issued = match request.presented {
        Presented::Code { code, redirect_uri } => world.grants.exchange(
            &code,
            &request.client,
            redirect_uri.as_deref(),
            serial,
            rules,
            now_ms,
        ),
        Presented::RefreshToken(_) => claims.ok_or(Refusal::Unknown).and_then(|claims| {
            let presentation = Presentation {
                client_id: &request.client,
                user_type: request.user_type,
                rotation,
            };
            world
                .grants
                .refresh(&claims, presentation, serial, rules, now_ms)
        }),
    };
    let issue = issued.map_err(refused)?;
    let outcome = match (issue.replayed, request.grant_type) {
        (true, _) => TokenOutcome::Replayed,
        (false, GrantType::AuthorizationCode) => TokenOutcome::CodeExchanged,
        (false, GrantType::RefreshToken) => TokenOutcome::Refreshed,
    };
    world.calls.token.count(outcome);
    Ok((issue, world.settings.token_bytes))
}

fn refused(refusal: Refusal) -> (TokenOutcome, ApiError) {
    let bad_grant = |message| (TokenOutcome::InvalidGrant, ApiError::bad_request(message));
    match refusal {
        Refusal::BadCode => bad_grant("Invalid grant: authorization code is invalid"),
        Refusal::Spent | Refusal::Expired | Refusal::Revoked => {
            bad_grant("Invalid grant: refresh token is invalid")
        }
        Refusal::Unknown => (
            TokenOutcome::InvalidGrant,
            ApiError::oauth("Invalid refresh token"),
        ),
        Refusal::OtherClient => invalid_client(),
        Refusal::OtherRedirectUri => (
            TokenOutcome::InvalidRequest,
            ApiError::bad_request("Invalid parameter: redirectUri"),
        ),
        Refusal::OtherUserType => (
            TokenOutcome::InvalidRequest,
            ApiError::bad_request("Invalid parameter: userType"),
        ),
        Refusal::Inactive => (
            TokenOutcome::LocationInactive,
            ApiError::bad_request("Location is not active"),
        ),
    }
}
