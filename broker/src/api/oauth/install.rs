//! The links that begin a consent: a redirect to GHL's consent page.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use ghl::consent::LinkOptions;
use http::header::{HOST, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use store::{ExternalId, consent_state};
use url::Url;
use utoipa::IntoParams;

use super::{app, error_response, is_secure, no_store, see_other};
use crate::Broker;
use crate::api::consent_cookie;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{PathName, QueryString};
use crate::apps::App;
use crate::connect::context::Carried;
use crate::connect::link::{self, Link};

/// Marks a request that was sent to the host of the callback already. A proxy may hide under which name it came.
const MOVED: &str = "moved";
const PATH: &str = "/oauth/install";

/// The query of the link.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Install {
    /// The name of the app. Needed if there are several, and none is called `default`.
    app: Option<String>,
    /// Whether GHL's page must not show GHL's name.
    #[serde(default)]
    white_label: bool,
    /// The window for GHL's login: `new` or `self`.
    login_window: Option<String>,
    /// Where the browser goes afterwards. It must be among `EVERGREEN_RETURN_URLS`.
    return_to: Option<String>,
    /// The customer's id, only with `EVERGREEN_PUBLIC_EXTERNAL_IDS=true`. An installation that has it keeps it.
    external_id: Option<String>,
}

/// Begin a consent
///
/// The link for customers. It leads to GHL's page, where they choose a location.
#[utoipa::path(get, path = "/oauth/install", operation_id = "beginConsent", params(Install), responses(
    (status = 303, description = "To GHL's consent page"),
))]
pub(super) async fn install(
    State(broker): State<Broker>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<QueryString<Install>, Error>,
) -> Response {
    let app = query.as_ref().ok().and_then(|query| query.0.app.clone());
    let begun = query.and_then(|QueryString(query)| begin(&broker, &headers, &uri, &query));
    let app = app.as_deref();
    no_store(begun.unwrap_or_else(|error| error_response(&broker, &headers, app, error)))
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
    let carried = carried(broker, &app, query)?;
    Ok(to_ghl(
        broker,
        &app,
        headers,
        uri,
        (carried.as_ref(), options),
    ))
}

/// The context that the state has to carry. `None` if the query has none.
fn carried(broker: &Broker, app: &App, query: &Install) -> Result<Option<Carried>, Error> {
    let callback = &app.consent.redirect_uri;
    let return_to = query.return_to.as_deref().map(|text| {
        let allowed = broker.0.config.return_urls.of_browser(text, callback);
        allowed.map_err(|message| Error::new(ErrorKind::ReturnUrlRefused, message))
    });
    if query.external_id.is_some() && !broker.0.config.has_public_external_ids {
        let message = "The public link takes no `external_id` here, since anybody can write one";
        return Err(Error::invalid(message).with_hint(
            "make a one-time link, or let the operator set EVERGREEN_PUBLIC_EXTERNAL_IDS=true",
        ));
    }
    let external_id = query.external_id.as_deref().map(|text| {
        let parsed = text.parse::<ExternalId>();
        parsed.map_err(|error| Error::invalid(error.to_string()))
    });
    let (return_to, external_id) = (return_to.transpose()?, external_id.transpose()?);
    let is_empty = return_to.is_none() && external_id.is_none();
    Ok((!is_empty).then_some(Carried::Public {
        return_to,
        external_id,
    }))
}

/// Open a one-time link
///
/// It leads to GHL's page, as `/oauth/install` does. It may be opened several times, such as by a scanner of mails, and
/// is over once a customer has connected with it.
#[utoipa::path(get, path = "/connect/{token}", operation_id = "openConnectLink", params(
    ("token" = String, Path, description = "The secret of the link"),
), responses(
    (status = 303, description = "To GHL's consent page, or to the page that says how it went"),
    (status = 410, description = "The link has expired, or there never was one"),
    (status = 500, description = "The stored record cannot be read"),
))]
pub(super) async fn follow(
    State(broker): State<Broker>,
    headers: HeaderMap,
    uri: Uri,
    token: Result<PathName, Error>,
) -> Response {
    let found = match token {
        Ok(PathName(token)) => find(&broker, &token).await,
        Err(error) => Err(error),
    };
    let app = found.as_ref().ok().map(|(_, link)| link.app.to_string());
    let followed = found.and_then(|(name, link)| go_on(&broker, &headers, &uri, (name, &link)));
    let app = app.as_deref();
    no_store(followed.unwrap_or_else(|error| error_response(&broker, &headers, app, error)))
}

/// The link with this secret, and its name. It may have expired.
async fn find(broker: &Broker, token: &str) -> Result<(String, Link), Error> {
    let name = link::name_of(token);
    let link = link::find(&broker.0.writer, &name).await?;
    Ok((name, link.ok_or_else(unknown)?))
}

fn unknown() -> Error {
    Error::new(ErrorKind::ConnectLinkUnknown, "This link has expired")
        .with_hint("ask for a new link")
}

fn go_on(
    broker: &Broker,
    headers: &HeaderMap,
    uri: &Uri,
    (name, link): (String, &Link),
) -> Result<Response, Error> {
    let ring = &broker.0.writer.rings().access;
    if let Some(outcome) = &link.finished {
        return Ok(see_other(&outcome.page_path(ring)));
    }
    if link.expires_at <= broker.0.reader.now() {
        return Err(unknown());
    }
    let app = app::named(broker, Some(link.app.as_str()))?;
    let options = LinkOptions {
        is_white_label: link.is_white_label,
        login_window: None,
    };
    let carried = Carried::Link { link: name };
    Ok(to_ghl(
        broker,
        &app,
        headers,
        uri,
        (Some(&carried), options),
    ))
}

/// The redirect to GHL's consent page, with a state that is bound to the browser.
fn to_ghl(
    broker: &Broker,
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    (carried, options): (Option<&Carried>, LinkOptions),
) -> Response {
    if let Some(there) = at_callback_host(app, headers, uri) {
        return Redirect::to(there.as_str()).into_response();
    }
    let ring = &broker.0.writer.rings().access;
    let context = carried.map(Carried::to_text);
    let now = broker.0.reader.now();
    let state = consent_state::issue(ring, &app.name, context.as_deref(), now);
    let link = app.consent.link(&state, options);
    let mut response = Redirect::to(link.as_str()).into_response();
    if let Some(cookie) = consent_cookie::issue(ring, &state, is_secure(app)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
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
fn at_callback_host(app: &App, headers: &HeaderMap, uri: &Uri) -> Option<Url> {
    let query = uri.query();
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
    there.set_path(uri.path());
    let query = query.filter(|query| !query.is_empty());
    let query = query.map_or(MOVED.to_owned(), |query| format!("{query}&{MOVED}"));
    there.set_query(Some(&query));
    Some(there)
}
