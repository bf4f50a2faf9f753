//! The consent page, where a customer chooses where to install the app.

mod page;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT, LOCATION};
use http::{HeaderMap, StatusCode};
use url::Url;

use request::AuthorizationRequest;

use crate::app::App;
use crate::directory::COMPANY;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::grants::Consent;
use crate::html;
use crate::subject::{Subject, is_id};
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
        mut redirect_uri,
        scope,
    } = AuthorizationRequest::read(app, fields)?;
    let (name, value) = if fields.get("deny") == Some("1") {
        ("error", "access_denied".to_owned())
    } else {
        let consent = Consent {
            subject: subject(fields)?,
            scope,
            client_id: app.config.client_id.clone(),
            // As the app wrote it, because the app repeats it in the exchange.
            redirect_uri: fields.get("redirect_uri").unwrap_or_default().to_owned(),
        };
        ("code", grant(app, consent))
    };
    let mut query = redirect_uri.query_pairs_mut();
    query.append_pair(name, &value);
    if let Some(state) = fields.get("state") {
        query.append_pair("state", state);
    }
    drop(query);
    Ok(redirect_uri)
}

/// The chosen location or company. Any valid id is accepted, and unknown ones are created.
fn subject(fields: &Fields) -> Result<Subject, &'static str> {
    let company = fields.get("companyId");
    if !company.is_none_or(is_id) {
        return Err("companyId is not an id");
    }
    match (fields.get("locationId"), company) {
        (Some(location), _) if !is_id(location) => Err("locationId is not an id"),
        (Some(location), company) => Ok(Subject::Location {
            location: location.into(),
            company: company.unwrap_or(COMPANY).into(),
        }),
        (None, Some(company)) => Ok(Subject::Company {
            company: company.into(),
        }),
        (None, None) => Err("locationId or companyId is needed"),
    }
}

/// Grants the consent and returns the code. The INSTALL webhook is sent at once, so it can arrive before the
/// code is exchanged, as it does with GHL.
fn grant(app: &Arc<App>, mut consent: Consent) -> String {
    let code = app.ids.hex(CODE_DIGITS);
    let now_ms = app.clock.now_ms();
    let event = {
        let mut world = app.world();
        if let Subject::Location { location, company } = &mut consent.subject {
            // An existing location stays with its company.
            let existing = world.directory.open(location, company);
            *company = existing.company.clone();
        }
        let event = Event::new(Kind::Install, consent.subject.clone());
        world.grants.consent(code.clone(), consent, now_ms);
        event
    };
    app.announce(event);
    code
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
