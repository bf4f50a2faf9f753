//! The consent page, where a customer chooses where to install the app.

mod choice;
mod page;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT, LOCATION};
use http::{HeaderMap, StatusCode};
use url::Url;

use choice::Choice;
use request::AuthorizationRequest;

use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::grants::Consent;
use crate::html;
use crate::token::{GrantId, Identity};
use crate::webhooks::{Event, Kind};

const CODE_DIGITS: usize = 40;

/// `GET …/chooselocation`: the page.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Fields,
) -> Response {
    match AuthorizationRequest::read(&app, &query) {
        Ok(request) => page::render(&app, &request, &query),
        Err(problem) => refuse(&headers, problem),
    }
}

/// `POST …/chooselocation`: the customer's choice. Fields come from the form or the query.
pub(crate) async fn choose(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Fields,
    body: Bytes,
) -> Response {
    let chosen = Fields::body(&headers, &body)
        .map_err(|_| "the form could not be read")
        .and_then(|form| decide(&app, &form.or(query)));
    match chosen {
        Ok(location) => (StatusCode::FOUND, [(LOCATION, location.as_str())]).into_response(),
        Err(problem) => refuse(&headers, problem),
    }
}

/// The redirect after the customer's choice.
fn decide(app: &Arc<App>, fields: &Fields) -> Result<Url, &'static str> {
    let AuthorizationRequest {
        client,
        mut redirect_uri,
        scope,
    } = AuthorizationRequest::read(app, fields)?;
    let (name, value) = if fields.get("deny") == Some("1") {
        ("error", "access_denied".to_owned())
    } else {
        let choice = Choice::read(fields)?;
        // As the app wrote it, because the app repeats it in the exchange.
        let redirect_uri = fields.get("redirect_uri").unwrap_or_default();
        ("code", grant(app, choice, &client, &scope, redirect_uri)?)
    };
    let mut query = redirect_uri.query_pairs_mut();
    query.append_pair(name, &value);
    if let Some(state) = fields.get("state") {
        query.append_pair("state", state);
    }
    drop(query);
    Ok(redirect_uri)
}

/// Installs the app and returns the code. The INSTALL webhooks are sent at once, so they can arrive before
/// the code is exchanged, as they do with GHL.
fn grant(
    app: &Arc<App>,
    mut choice: Choice,
    client: &Arc<str>,
    scope: &str,
    redirect_uri: &str,
) -> Result<String, &'static str> {
    let code = app.ids.hex(CODE_DIGITS);
    let grant = GrantId(app.ids.number());
    let now_ms = app.clock.now_ms();
    let installed = {
        let mut world = app.world();
        choice.open(&mut world)?;
        let identity = Identity {
            grant,
            client: client.clone(),
            subject: choice.subject(),
            scope: scope.into(),
            agency_grant: None,
        };
        let installed = choice.install(&mut world, &identity, now_ms);
        let consent = Consent {
            identity,
            redirect_uri: redirect_uri.to_owned(),
        };
        world.grants.consent(code.clone(), consent, now_ms);
        installed
    };
    app.announce(
        installed
            .into_iter()
            .map(|subject| Event::new(Kind::Install, client.clone(), subject).of_user(grant))
            .collect(),
    );
    Ok(code)
}

/// An error as a page for a browser, as JSON for a script.
fn refuse(headers: &HeaderMap, problem: &str) -> Response {
    let wants_html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_html {
        let body = format!("<p>The app's link is wrong: {}.</p>", html::escape(problem));
        return (
            StatusCode::BAD_REQUEST,
            html::page("This app cannot be installed", &body),
        )
            .into_response();
    }
    ApiError::bad_request(problem).into_response()
}
