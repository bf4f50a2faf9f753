//! The OAuth authorization code flow: the redirect to GHL's consent page, and the callback with the code.

mod agency_location;
mod app;
mod exchange;
mod finish;
mod install;
mod page;
mod unverified;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, REFERRER_POLICY, RETRY_AFTER};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use service::client_address::last_noted;
use service::error_body::ErrorBody;
use service::handler::Peer;
use store::{CompanyId, ExternalId, InstallationId, LocationId};
use utoipa::{IntoParams, IntoResponses, OpenApi, ToResponse, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::finish::Browser;
use crate::Broker;
use crate::api::consent_cookie;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::PathName;
use crate::api::html;
use crate::apps::App;
use crate::connect::Outcome;
use crate::connect::outcome::Status;

/// The bodies of [`CallbackResponses`].
#[derive(OpenApi)]
#[openapi(components(schemas(OutcomeView, NotConnected)))]
struct Schemas;

pub(crate) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::with_openapi(Schemas::openapi())
        .routes(routes!(install::install))
        .routes(routes!(install::follow))
        .routes(routes!(callback))
        .routes(routes!(callback_of_app))
        .routes(routes!(earlier_callback))
        .routes(routes!(page::show))
}

/// Whether browsers reach the callback over https.
fn is_secure(app: &App) -> bool {
    app.consent.redirect_uri.scheme() == "https"
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Callback {
    /// The code that evergreen exchanges for tokens. It is valid once.
    #[param(value_type = Option<String>)]
    code: Option<SecretString>,
    /// As evergreen gave it to GHL. A consent that begins in GHL's marketplace has none.
    state: Option<String>,
    /// Why there is no code, such as `access_denied`.
    error: Option<String>,
}

/// The outcome of a consent, for scripts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsentOutcome)]
struct OutcomeView {
    #[schema(value_type = Option<String>)]
    installation_id: Option<InstallationId>,
    #[schema(value_type = Option<String>)]
    location_id: Option<LocationId>,
    #[schema(value_type = Option<String>)]
    company_id: Option<CompanyId>,
    #[schema(value_type = Option<String>)]
    external_id: Option<ExternalId>,
    /// `connected`, `denied` or `error`.
    #[schema(value_type = String)]
    status: Status,
    /// The code of an error.
    code: Option<String>,
}

/// A consent that did not connect the app.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = FailedConsent)]
#[expect(
    dead_code,
    reason = "it is only documented: the two are sent in different places"
)]
enum NotConnected {
    Before(OutcomeView),
    Now(ErrorBody),
}

/// The responses of a callback.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is only documented")]
enum CallbackResponses {
    /// For scripts: the app is connected
    #[response(status = 200)]
    Connected(OutcomeView),
    /// For browsers: to `return_to`, or to a page that says how it went
    #[response(status = 303)]
    Redirect,
    #[response(status = 400)]
    NotConnected(#[to_response] NotConnectedResponse),
    /// The one-time link of this consent has expired
    #[response(status = 410)]
    LinkExpired,
    /// The stored record cannot be read
    #[response(status = 500)]
    RecordUnreadable,
}

/// The app is not connected, also if a first request of this browser failed
#[derive(ToResponse)]
#[expect(dead_code, reason = "it is only documented")]
enum NotConnectedResponse {
    Script(#[content("application/json")] NotConnected),
    Page(#[content("text/html")] String),
}

/// The parts of a request to a callback.
type CallbackRequest = (
    State<Broker>,
    Method,
    Extensions,
    HeaderMap,
    Result<Option<PathName>, Error>,
    Result<Query<Callback>, QueryRejection>,
);

/// Take the code of a consent
///
/// GHL sends the customer's browser here. It goes on to `return_to`, or to a page that says how it went. Scripts get
/// JSON.
#[utoipa::path(
    get,
    path = "/oauth/callback",
    operation_id = "finishConsent",
    params(Callback),
    responses(CallbackResponses)
)]
async fn callback(request: CallbackRequest) -> Response {
    take_code(request).await
}

/// Take the code of a consent to a named app
///
/// As `/oauth/callback`, for an app that is not the default one.
#[utoipa::path(get, path = "/oauth/callback/{app}", operation_id = "finishConsentOfApp", params(
    ("app" = String, Path, description = "The name of the app"), Callback,
), responses(CallbackResponses))]
async fn callback_of_app(request: CallbackRequest) -> Response {
    take_code(request).await
}

/// Take the code of a consent, at another address
///
/// As `/oauth/callback`, for apps whose redirect URI at GHL is this one.
#[utoipa::path(
    get,
    path = "/api/oauth/callback",
    operation_id = "finishConsentAtApi",
    params(Callback),
    responses(CallbackResponses)
)]
async fn earlier_callback(request: CallbackRequest) -> Response {
    take_code(request).await
}

async fn take_code(
    (State(broker), method, extensions, headers, path, query): CallbackRequest,
) -> Response {
    if method == Method::HEAD || is_prefetch(&headers) {
        return no_store(not_yet(&method));
    }
    let Ok(Query(callback)) = query else {
        let error = Error::invalid("The callback has a parameter twice, or none that can be read");
        return no_store(error_response(&broker, &headers, None, error));
    };
    let named = match path {
        Ok(path) => path.map(|PathName(name)| name),
        Err(error) => return no_store(error_response(&broker, &headers, None, error)),
    };
    let app = match app::of_callback(&broker, callback.state.as_deref(), named.as_deref()) {
        Ok(app) => app,
        Err(error) => return no_store(error_response(&broker, &headers, named.as_deref(), error)),
    };
    let ring = &broker.0.writer.rings().access;
    let is_own_browser = callback
        .state
        .as_ref()
        .is_some_and(|state| consent_cookie::verify(ring, &headers, state, is_secure(&app)));
    let presented = callback.state.clone();
    let state = presented.clone().filter(|_| is_own_browser);
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
    let is_refused = |error: &Error| error.kind == ErrorKind::ConsentStateInvalid;
    let outcome = match presented.filter(|_| error.as_ref().is_some_and(is_refused)) {
        Some(state) => finish::with_origin(&broker, &state, outcome).await,
        None => outcome,
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
        _ => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response(),
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
    let body = OutcomeView {
        installation_id: outcome.installation_id.clone(),
        location_id: outcome.location_id.clone(),
        company_id: outcome.company_id.clone(),
        external_id: outcome.external_id.clone(),
        status: outcome.status,
        code: outcome.code.clone(),
    };
    (status, Json(body)).into_response()
}

fn see_other(address: &str) -> Response {
    let mut response = Redirect::to(address).into_response();
    // The URL of the callback contains the authorization code.
    let policy = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(REFERRER_POLICY, policy);
    response
}

/// The response to a request that has not come as far as an outcome. `app`: the name of its app, as far as it is known. The
/// page has the app's name and logo.
fn error_response(
    broker: &Broker,
    headers: &HeaderMap,
    app: Option<&str>,
    error: Error,
) -> Response {
    if !html::accepts_html(headers) {
        return error.into_response();
    }
    let apps = broker.0.worker.apps.current();
    let of_name = app.and_then(|name| apps.named(&name.parse().ok()?));
    let app = of_name.or_else(|| apps.only());
    page::of_error(app.map(AsRef::as_ref), &error)
}

fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_may_be_repeated_by_a_person_after_a_second() {
        let answer = not_yet(&Method::GET);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        assert_eq!(not_yet(&Method::HEAD).status(), StatusCode::OK);
    }
}
