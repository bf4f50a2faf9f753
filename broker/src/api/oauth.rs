//! The OAuth authorization code flow: the redirect to GHL's consent page, and the callback with the code.

mod agency_location;
mod app;
mod exchange;
mod finish;
mod install;
mod page;
mod unverified;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, REFERRER_POLICY};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use service::client_address::last_noted;
use service::handler::Peer;

use self::finish::Browser;
use crate::Broker;
use crate::api::consent_cookie;
use crate::api::error::Error;
use crate::api::html;
use crate::apps::App;
use crate::connect::Outcome;

pub(crate) fn routes() -> Router<Broker> {
    Router::new()
        .route("/oauth/install", get(install::install))
        .route("/connect/{token}", get(install::follow))
        .route("/oauth/callback", get(callback))
        .route("/oauth/callback/{app}", get(callback))
        .route("/api/oauth/callback", get(callback))
        .route("/oauth/result/{outcome}", get(page::show))
}

/// Whether browsers reach the callback over https.
fn is_secure(app: &App) -> bool {
    app.consent.redirect_uri.scheme() == "https"
}

#[derive(Deserialize)]
struct Callback {
    code: Option<SecretString>,
    state: Option<String>,
    error: Option<String>,
}

async fn callback(
    State(broker): State<Broker>,
    method: Method,
    extensions: Extensions,
    headers: HeaderMap,
    path: Option<Path<String>>,
    query: Result<Query<Callback>, axum::extract::rejection::QueryRejection>,
) -> Response {
    if method == Method::HEAD || is_prefetch(&headers) {
        return no_store(not_yet(&method));
    }
    let Ok(Query(callback)) = query else {
        let error = Error::invalid("The callback has a parameter twice, or none that can be read");
        return no_store(error_response(&broker, &headers, error));
    };
    let named = path.map(|Path(name)| name);
    let app = match app::of_callback(&broker, callback.state.as_deref(), named.as_deref()) {
        Ok(app) => app,
        Err(error) => return no_store(error_response(&broker, &headers, error)),
    };
    let ring = &broker.0.writer.rings().access;
    let is_own_browser = callback
        .state
        .as_ref()
        .is_some_and(|state| consent_cookie::verify(ring, &headers, state, is_secure(&app)));
    let state = callback.state.clone().filter(|_| is_own_browser);
    let (outcome, error) = match finish::recorded(&broker, state.as_deref()).await {
        Some(outcome) => (outcome, None),
        None => {
            let browser = Browser {
                address: last_noted(Peer::of(&extensions), &headers),
                state,
            };
            finish::finish(&broker, &app, callback, browser).await
        }
    };
    no_store(respond(&broker, &headers, &outcome, error))
}

/// A scanner of links, or a browser that guesses where its user goes next.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .any(|purpose| purpose.contains("prefetch") || purpose.contains("preview"))
}

/// The response to a request that no person made. It spends no code.
fn not_yet(method: &Method) -> Response {
    match *method {
        Method::HEAD => StatusCode::OK.into_response(),
        // A browser keeps no answer with an error for the person's own request.
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Sends the browser to where the caller wants it, or to a page of its own, so that a reload repeats nothing. Scripts get
/// JSON.
fn respond(
    broker: &Broker,
    headers: &HeaderMap,
    outcome: &Outcome,
    error: Option<Error>,
) -> Response {
    if let Some(url) = outcome.return_url() {
        return see_other(url.as_str());
    }
    if html::accepts_html(headers) {
        return see_other(&outcome.page_path(&broker.0.writer.rings().access));
    }
    if let Some(error) = error {
        return error.into_response();
    }
    let status = match outcome.installation_id {
        Some(_) => StatusCode::OK,
        // It failed when this browser came first.
        None => StatusCode::BAD_REQUEST,
    };
    let body = json!({
        "installationId": outcome.installation_id,
        "locationId": outcome.location_id,
        "companyId": outcome.company_id,
        "externalId": outcome.external_id,
        "status": outcome.status,
        "code": outcome.code,
    });
    (status, Json(body)).into_response()
}

fn see_other(address: &str) -> Response {
    let mut response = Redirect::to(address).into_response();
    // The URL of the callback contains the authorization code.
    let policy = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(REFERRER_POLICY, policy);
    response
}

/// The response to a request that has not come as far as an outcome.
fn error_response(broker: &Broker, headers: &HeaderMap, error: Error) -> Response {
    if !html::accepts_html(headers) {
        return error.into_response();
    }
    let apps = broker.0.worker.apps.current();
    page::of_error(apps.only().map(AsRef::as_ref), &error)
}

fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
    response
}
