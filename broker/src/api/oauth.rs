//! The OAuth authorization code flow: the redirect to GHL's consent page, and the callback with the code.

mod app;
mod exchange;
mod install;
mod page;
mod unverified;

use std::time::Duration;

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
use store::consent_state;
use tokio::time::timeout;
use tracing::warn;

use self::exchange::Connected;
use crate::Broker;
use crate::api::consent_cookie;
use crate::api::error::{Error, ErrorKind};
use crate::api::html;
use crate::apps::App;
use crate::connect::context::Carried;
use crate::connect::outcome::Status;
use crate::connect::{Context, Outcome, link};

/// How long a browser waits for the store, in addition to the timeout of the token endpoint.
const STORE_TIME: Duration = Duration::from_secs(5);

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
        return no_store(error_response(&headers, None, error));
    };
    let named = path.map(|Path(name)| name);
    let app = match app::of_callback(&broker, callback.state.as_deref(), named.as_deref()) {
        Ok(app) => app,
        Err(error) => return no_store(error_response(&headers, None, error)),
    };
    let ring = &broker.0.writer.rings().access;
    let is_own_browser = callback
        .state
        .as_ref()
        .is_some_and(|state| consent_cookie::verify(ring, &headers, state, is_secure(&app)));
    let state = callback.state.clone().filter(|_| is_own_browser);
    let earlier = earlier_outcome(&broker, state.as_deref()).await;
    let (outcome, error) = match earlier {
        Some(outcome) => (outcome, None),
        None => {
            let address = last_noted(Peer::of(&extensions), &headers);
            finish(&broker, &app, callback, (address, is_own_browser)).await
        }
    };
    no_store(respond(&broker, &headers, &outcome, error))
}

/// Connects with the code of a callback. The outcome is recorded for a browser that comes again.
async fn finish(
    broker: &Broker,
    app: &std::sync::Arc<App>,
    callback: Callback,
    browser: (std::net::IpAddr, bool),
) -> (Outcome, Option<Error>) {
    let state = callback.state.clone().filter(|_| browser.1);
    let context = match context_of(broker, state.as_deref()).await {
        Ok(context) => context,
        Err(error) => return (Outcome::of_error(app.name.clone(), &error), Some(error)),
    };
    // Run in a task of its own: once the code is spent, a browser that disconnects must not lose the tokens.
    let wait_at_most = broker.0.config.timing.call + STORE_TIME;
    let work = {
        let (broker, app, context) = (broker.clone(), app.clone(), context.clone());
        broker.0.shutdown.clone().spawn(async move {
            let customer = context.customer.clone();
            let connected = exchange::connect(&broker, &app, callback, customer, browser).await?;
            let outcome = outcome_of(&broker, &context, &connected).await;
            record(&broker, state.as_deref(), &context, &outcome).await;
            Ok((outcome, connected))
        })
    };
    let failed = |error: Error| {
        let outcome = Outcome {
            return_to: context.return_to.clone(),
            external_id: context.customer.customer.external_id.clone(),
            may_begin_again: context.link.is_none(),
            ..Outcome::of_error(app.name.clone(), &error)
        };
        (outcome, Some(error))
    };
    match timeout(wait_at_most, work).await {
        Ok(Ok(Ok((outcome, _)))) => (outcome, None),
        Ok(Ok(Err(error))) => failed(error),
        Ok(Err(_)) => failed(Error::new(
            ErrorKind::BrokerStopping,
            "The broker is stopping",
        )),
        // The task continues to wait for GHL's response.
        Err(_) => failed(
            Error::new(ErrorKind::ConsentPending, "GHL has not answered yet")
                .with_hint("the app is connected as soon as GHL answers; start again if it is not in 5 minutes"),
        ),
    }
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

/// The outcome of a consent that this browser has finished before. A reload is harmless.
async fn earlier_outcome(broker: &Broker, state: Option<&str>) -> Option<Outcome> {
    let text = broker.0.writer.consent_outcome(state?).await.ok()??;
    serde_json::from_str(&text).ok()
}

/// What the link of this consent said.
async fn context_of(broker: &Broker, state: Option<&str>) -> Result<Context, Error> {
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    let state = state.and_then(|state| consent_state::verify(ring, state, now));
    let carried = state.and_then(|state| Carried::parse(&state.context?));
    match carried {
        None => Ok(Context::default()),
        Some(Carried::Public {
            return_to,
            external_id,
        }) => Ok(Context::of_public(return_to, external_id)),
        Some(Carried::Link { link: name }) => {
            let found = link::find(&broker.0.writer, &name).await?;
            let link = found.ok_or_else(|| {
                Error::new(ErrorKind::ConnectLinkUnknown, "This link has expired")
                    .with_hint("ask for a new link")
            })?;
            Ok(Context::of_link(name, link))
        }
    }
}

/// The outcome of a consent that brought tokens. They are stored, whoever consented.
async fn outcome_of(broker: &Broker, context: &Context, connected: &Connected) -> Outcome {
    let Connected { id, enrolment } = connected;
    let wanted = context.customer.customer.external_id.as_ref();
    let known = broker.0.writer.load(id).await.ok().flatten();
    let external_id = known.and_then(|known| known.installation.customer.external_id);
    let is_owner = |wanted: &String| {
        let location = enrolment.location.as_ref().map(|it| it.as_str());
        let company = enrolment.company.as_ref().map(|it| it.as_str());
        location.or(company) == Some(wanted)
    };
    let code = if !context.owner.as_ref().is_none_or(is_owner) {
        Some(ErrorKind::OtherOwner)
    } else if wanted.is_some() && wanted != external_id.as_ref() {
        Some(ErrorKind::ExternalIdTaken)
    } else {
        None
    };
    Outcome {
        status: match code {
            Some(_) => Status::Error,
            None => Status::Connected,
        },
        app: enrolment.app.clone(),
        installation_id: Some(id.clone()),
        location_id: enrolment.location.clone(),
        company_id: enrolment.company.clone(),
        external_id,
        code: code.map(|kind| kind.code().to_owned()),
        may_begin_again: context.link.is_none(),
        return_to: context.return_to.clone(),
    }
}

/// Records an outcome for a browser that comes again, and for those who open a one-time link again. Nothing depends on it.
async fn record(broker: &Broker, state: Option<&str>, context: &Context, outcome: &Outcome) {
    let writer = &broker.0.writer;
    let text = serde_json::to_string(outcome).unwrap_or_default();
    let recorded = async {
        if let Some(state) = state {
            writer.record_consent_outcome(state, &text).await?;
        }
        match &context.link {
            Some(name) if outcome.status == Status::Connected => {
                link::finish(writer, name, outcome).await
            }
            Some(_) | None => Ok(()),
        }
    };
    if let Err(error) = recorded.await {
        warn!(
            error = &error as &dyn std::error::Error,
            "the outcome of a consent is not recorded"
        );
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
    match error {
        Some(error) => error.into_response(),
        None => Json(json!({
            "installationId": outcome.installation_id,
            "locationId": outcome.location_id,
            "companyId": outcome.company_id,
            "externalId": outcome.external_id,
            "status": outcome.status,
            "code": outcome.code,
        }))
        .into_response(),
    }
}

fn see_other(address: &str) -> Response {
    let mut response = Redirect::to(address).into_response();
    // The URL of the callback contains the authorization code.
    let policy = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(REFERRER_POLICY, policy);
    response
}

/// `app`: the one to start again with. `None` if it is not known.
fn error_response(headers: &HeaderMap, app: Option<&App>, error: Error) -> Response {
    if !html::accepts_html(headers) {
        return error.into_response();
    }
    page::of_error(app, &error)
}

fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
    response
}
