//! The link that begins a consent: a redirect to GHL's consent page.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use ghl::consent::LinkOptions;
use http::header::{HOST, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use store::consent_state;
use url::Url;

use super::{app, error_response, is_secure, no_store};
use crate::Broker;
use crate::api::consent_cookie;
use crate::api::error::Error;
use crate::api::extract::QueryString;
use crate::apps::App;

/// Marks a request that was sent to the host of the callback already. A proxy may hide under which name it came.
const MOVED: &str = "moved";
const PATH: &str = "/oauth/install";

/// The query of the link.
#[derive(Deserialize)]
pub(super) struct Install {
    /// The name of the app. Needed if there are several, and none is called `default`.
    app: Option<String>,
    /// Whether GHL's page must not show GHL's name.
    #[serde(default)]
    white_label: bool,
    /// The window for GHL's login: `new` or `self`.
    login_window: Option<String>,
}

pub(super) async fn install(
    State(broker): State<Broker>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<QueryString<Install>, Error>,
) -> Response {
    let begun = query.and_then(|QueryString(query)| begin(&broker, &headers, &uri, &query));
    no_store(begun.unwrap_or_else(|error| error_response(&headers, None, error)))
}

fn begin(
    broker: &Broker,
    headers: &HeaderMap,
    uri: &Uri,
    query: &Install,
) -> Result<Response, Error> {
    let app = app::named(broker, query.app.as_deref())?;
    let login_window = query.login_window.as_deref().map(str::parse).transpose();
    let options = LinkOptions {
        is_white_label: query.white_label,
        login_window: login_window
            .map_err(|_: &str| Error::invalid("`login_window` is `new` or `self`"))?,
    };
    if let Some(there) = at_callback_host(&app, headers, uri.query()) {
        return Ok(Redirect::to(there.as_str()).into_response());
    }
    let ring = &broker.0.writer.rings().access;
    let state = consent_state::issue(ring, &app.name, broker.0.reader.now());
    let link = app.consent.link(&state, options);
    let mut response = Redirect::to(link.as_str()).into_response();
    if let Some(cookie) = consent_cookie::issue(ring, &state, is_secure(&app)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The link that begins a consent to this app.
pub(super) fn path_of(app: Option<&App>) -> String {
    match app.filter(|app| !app.name.is_default()) {
        Some(app) => format!("{PATH}?app={}", app.name),
        None => PATH.to_owned(),
    }
}

/// The address of the same page at the host of the callback, if the browser came by another name. The cookie of the
/// consent is for one host.
fn at_callback_host(app: &App, headers: &HeaderMap, query: Option<&str>) -> Option<Url> {
    let host = headers
        .get("x-forwarded-host")
        .or_else(|| headers.get(HOST))?;
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    let callback = &app.consent.redirect_uri;
    let is_moved = query.is_some_and(|query| query.split('&').any(|it| it == MOVED));
    if is_moved || callback.host_str()?.eq_ignore_ascii_case(host.host()) {
        return None;
    }
    let mut there = callback.clone();
    there.set_path(PATH);
    let query = query.filter(|query| !query.is_empty());
    let query = query.map_or(MOVED.to_owned(), |query| format!("{query}&{MOVED}"));
    there.set_query(Some(&query));
    Some(there)
}
