//! `POST /v1/sso/decrypt` opens the user context that GHL gives to a page of an app.

use axum::extract::State;
use axum::{Extension, Json};
use ghl::UserContext;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Caller, Status};
use store_writer::installation::Installation;
use utoipa::ToSchema;

use super::browser_keys::{Issued, Limits, NO_STORE, issue};
use super::installation;
use crate::Broker;
use crate::api::auth::Backend;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::JsonBody;
use crate::api::status::Name;
use crate::apps::App;

/// The body of a request to open a user context.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EncryptedUserContext)]
pub(super) struct Encrypted {
    /// The context, as GHL gives it to the page.
    #[serde(alias = "encryptedData")]
    encrypted_data: String,
    /// The app that the page is of. The one of the key, or the default one, if there is none.
    app: Option<String>,
    /// For a browser key. None is issued without calls.
    #[serde(default)]
    #[schema(max_items = 20)]
    calls: Vec<String>,
    /// The lifetime of the browser key in seconds.
    #[schema(minimum = 1, maximum = 3600)]
    expires_in: Option<u64>,
    /// The origin of the pages that may send the browser key. All if there is none.
    origin: Option<String>,
}

/// A user context, and what evergreen knows about its location.
#[derive(Serialize, ToSchema)]
#[schema(as = UserContext)]
pub(super) struct Opened {
    /// As GHL gives it.
    #[schema(value_type = Object)]
    user: Map<String, Value>,
    app: String,
    /// The installation of the app for `activeLocation`. `null` if there is none, or the key is not for it.
    installation_id: Option<String>,
    /// `null` without `calls`, and without an installation.
    browser_key: Option<Issued>,
}

/// Open the user context of a page
///
/// GHL gives it, encrypted, to a page of an app. With `calls` the response has a browser key for the location, too.
#[utoipa::path(post, path = "/v1/sso/decrypt", operation_id = "openUserContext", request_body = Encrypted, responses(
    (status = 200, description = "The user context", body = Opened),
    (status = 409, description = "The settings have no shared secret of the app"),
))]
pub(super) async fn decrypt(
    State(broker): State<Broker>,
    Extension(backend): Extension<Backend>,
    JsonBody(request): JsonBody<Encrypted>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<Opened>), Error> {
    let apps = broker.0.worker.apps.current();
    let app = apps.chosen(request.app.as_deref(), backend.caller.app.as_ref())?;
    let limits = Limits {
        calls: request.calls,
        expires_in: request.expires_in,
        origin: request.origin,
    };
    let limits = match limits.calls.as_slice() {
        [] => None,
        [_, ..] => Some(limits.check(&backend, broker.0.reader.now())?),
    };
    if app.sso_keys.is_empty() {
        let message = format!("The settings have no shared secret of the app {}", app.name);
        return Err(Error::new(ErrorKind::SsoKeyMissing, message).with_hint(
            "set GHL_SSO_KEY, or `sso_key` in the section of the app, for every broker",
        ));
    }
    let context = UserContext::open(&app.sso_keys, &request.encrypted_data);
    let context = context.map_err(|error| {
        Error::new(ErrorKind::SsoContextInvalid, error.to_string())
            .with_hint("send it as the page got it, with the app that the page is of")
    })?;
    let installation = match context.active_location() {
        Some(location) => installed(&broker, &backend.caller, app, location).await?,
        None => None,
    };
    let browser_key = match (&installation, limits) {
        (Some(its), Some(limits)) => Some(issue(&broker, &backend, &its.id, limits)?),
        (None, _) | (_, None) => None,
    };
    let opened = Opened {
        user: context.into_members(),
        app: app.name.to_string(),
        installation_id: installation.map(|its| its.id.to_string()),
        browser_key,
    };
    Ok((NO_STORE, Json(opened)))
}

/// The installation of the app for a location. `None` if the location has not installed it, or has removed it.
async fn installed(
    broker: &Broker,
    caller: &Caller,
    app: &App,
    location: &str,
) -> Result<Option<Installation>, Error> {
    let name = Name {
        name: location,
        app: Some(app.name.as_str()),
    };
    let found = match installation::find(broker, caller, name).await {
        Ok(found) => found,
        Err(error) if error.kind == ErrorKind::InstallationNotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The context is not signed, so an id of another kind is forged.
    let is_its = found
        .access
        .location
        .as_ref()
        .is_some_and(|its| its.as_str() == location);
    let is_installed = match found.access.status {
        Status::Active | Status::Paused | Status::Invalid | Status::Static => true,
        Status::Revoked => false,
    };
    Ok((is_its && is_installed).then_some(found))
}
