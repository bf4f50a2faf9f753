//! The administration API: installations and caller keys.

mod apps;
mod export;
mod import;
mod list;
mod manage;
mod private_token;
mod verify;

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::audit::{Action, Day, Outcome};
use store::{AllowedCall, AppName, Caller, InstallationId, KeyHash, Quota, Scope, Timestamp};
use store_writer::WriteError;
use store_writer::key_rotation::NotRotatable;
use store_writer::writer::{Listed, RotatedKey, Wanted};
use tracing::info;

use crate::Broker;
use crate::agency::revocation::end_locations;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, QueryString};
use crate::api::refresh_api;
use crate::api::status::{AnyView, Name, View};
use crate::audit::Requester;

pub(crate) fn routes() -> Router<Broker> {
    Router::new()
        .route("/v1/installations", get(list::list).post(import::import))
        .route("/v1/installations/export", get(export::export))
        .route("/v1/installations/verify", post(verify::verify))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{name}", delete(apps::free))
        .route("/v1/private-tokens", post(private_token::add))
        .route(
            "/v1/installations/{name}",
            get(show).patch(manage::change).delete(manage::delete),
        )
        .route("/v1/installations/{name}/refresh", post(refresh))
        .route("/v1/installations/{name}/revoke", post(revoke))
        .route("/v1/keys", get(list_keys).post(create_key))
        .route("/v1/keys/{key}", delete(revoke_key))
        .route("/v1/keys/{key}/rotate", post(rotate_key))
}

async fn show(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<AnyView>, Error> {
    let writer = &broker.0.writer;
    let id = query.name(&name).resolve(writer).await?;
    let shown = match writer.load(&id).await {
        Ok(found) => Listed::Readable(Box::new(found.ok_or_else(Error::not_found)?)),
        Err(WriteError::Unreadable { id, source }) => Listed::Unreadable { id, source },
        Err(error) => return Err(error.into()),
    };
    let apps = broker.0.worker.apps.current();
    Ok(Json(AnyView::of(&shown, &apps.known())))
}

/// The query of a route that names an installation.
#[derive(Deserialize)]
struct AppQuery {
    app: Option<String>,
}

impl AppQuery {
    fn name<'a>(&'a self, name: &'a str) -> Name<'a> {
        let app = self.app.as_deref();
        Name { name, app }
    }
}

async fn refresh(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
    QueryString(query): QueryString<RefreshQuery>,
) -> Result<Response, Error> {
    let name = Name {
        name: &name,
        app: query.app.as_deref(),
    };
    let id = name.resolve(&broker.0.writer).await?;
    let wanted = if query.force {
        Wanted::Forced
    } else {
        Wanted::Now
    };
    let refreshed = refresh_api::now(&broker, &id, wanted).await;
    let now = broker.0.reader.now();
    let mut entry = requester.entry(now, Action::TokenRefreshed).on(&id);
    if let Err(error) = &refreshed {
        entry.outcome = Outcome::Failed;
        entry = entry.with(error.code());
    }
    broker.0.audit.record(entry).await;
    refreshed
}

/// The query of a refresh request.
#[derive(Deserialize)]
struct RefreshQuery {
    /// Whether to refresh even an invalid installation.
    #[serde(default)]
    force: bool,
    app: Option<String>,
}

async fn revoke(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<View>, Error> {
    let id = query.name(&name).resolve(&broker.0.writer).await?;
    let now = broker.0.reader.now();
    broker
        .0
        .writer
        .revoke(&id, "revoked by an operator", now)
        .await?;
    info!(installation = %id, "revoked by an operator");
    let ended = end_locations(
        &broker.0.shutdown,
        &broker.0.writer,
        &id,
        "the agency was revoked by an operator",
        now,
    )
    .await;
    let entry = requester.entry(now, Action::InstallationRevoked);
    broker.0.audit.record(entry.on(&id)).await;
    ended?;
    let snapshot = query.name(id.as_str()).find(&broker.0.writer).await?;
    let apps = broker.0.worker.apps.current();
    Ok(Json(View::of(&snapshot, &apps.known())))
}

/// The body of a request for a new caller key.
#[derive(Debug, Deserialize, Serialize)]
pub struct NewKey {
    /// The name by which an operator revokes the key.
    pub name: String,
    /// The scopes, such as `proxy`.
    pub scopes: Vec<String>,
    /// The app whose installations the key may use. `None` for those of all apps.
    pub app: Option<String>,
    /// The installations that the key may use. `None` for all.
    pub installations: Option<Vec<InstallationId>>,
    /// The calls to GHL that the key may make, such as `GET /contacts/*`. `None` for all.
    pub calls: Option<Vec<String>>,
    /// The quota in calls per interval, such as `100/10s`. `None` for no limit.
    pub quota: Option<String>,
    /// The expiry in milliseconds since the Unix epoch. `None` for never.
    pub expires_at_ms: Option<i64>,
}

impl NewKey {
    /// The caller for this request, created at `now`.
    ///
    /// # Errors
    /// A message if the name is empty, a scope is unknown, the quota or a call cannot be parsed, or the scopes allow
    /// more than the calls.
    pub fn into_caller(self, now: Timestamp) -> Result<Caller, String> {
        if self.name.trim().is_empty() {
            return Err("a key needs a name to be revoked by".to_owned());
        }
        let scopes = self.scopes.iter().map(|scope| scope.parse::<Scope>());
        let scopes = scopes
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let app = self.app.map(|app| app.parse::<AppName>()).transpose();
        let app = app.map_err(|error| error.to_string())?;
        if app.is_some() && scopes.contains(&Scope::Admin) {
            return Err(
                "a key with the scope `admin` cannot be limited to one app: it can create any key"
                    .to_owned(),
            );
        }
        let calls = self.calls.map(|calls| parse_calls(&calls, &scopes));
        let quota = self.quota.map(|quota| quota.parse::<Quota>());
        Ok(Caller {
            name: self.name,
            scopes,
            app,
            installations: self.installations,
            calls: calls.transpose()?,
            quota: quota.transpose().map_err(|error| error.to_string())?,
            created_at: now,
            expires_at: self.expires_at_ms.map(Timestamp::from_millis),
            revoked_at: None,
        })
    }
}

/// The most calls that one key may name.
const MAX_CALLS: usize = 100;

fn parse_calls(calls: &[String], scopes: &[Scope]) -> Result<Vec<AllowedCall>, String> {
    if calls.is_empty() || calls.len() > MAX_CALLS {
        return Err(format!(
            "a key names 1 to {MAX_CALLS} calls, or none to allow all"
        ));
    }
    if let Some(scope) = scopes
        .iter()
        .find(|it| matches!(it, Scope::Tokens | Scope::Admin))
    {
        return Err(format!(
            "a key with the scope `{scope}` cannot be limited to some calls: with a token one can make every call"
        ));
    }
    let parse = |call: &String| call.parse().map_err(|error| format!("`{call}`: {error}"));
    calls.iter().map(parse).collect()
}

async fn create_key(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let caller = request
        .into_caller(broker.0.reader.now())
        .map_err(|reason| Error::new(ErrorKind::RequestInvalid, reason))?;
    let key = broker.0.writer.create_caller(&caller).await?;
    info!(name = caller.name, "a caller key was created");
    let hash = KeyHash::of(key.expose_secret());
    let entry = requester.entry(broker.0.reader.now(), Action::KeyCreated);
    let entry = entry.on_key(&hash, &caller.name);
    broker.0.audit.record(entry.with(summary(&caller))).await;
    let shown = json!({ "id": hash.to_string(), "name": caller.name, "key": key.expose_secret() });
    Ok((StatusCode::CREATED, Json(shown)))
}

/// The rights of a key, for the audit log.
#[must_use]
pub fn summary(caller: &Caller) -> String {
    let scopes: Vec<&str> = caller.scopes.iter().map(|it| it.as_str()).collect();
    let installations = match &caller.installations {
        None => "all installations".to_owned(),
        Some(some) => format!("{} installations", some.len()),
    };
    let app = caller.app.as_ref();
    let app = app.map_or_else(String::new, |app| format!(" of the app {app}"));
    format!("{} for {installations}{app}", scopes.join(","))
}

async fn list_keys(State(broker): State<Broker>) -> Result<Json<Value>, Error> {
    let now = broker.0.reader.now();
    let callers = broker.0.writer.callers().await?;
    let used = broker.0.writer.key_uses().await?;
    let views: Vec<Value> = callers
        .iter()
        .map(|(hash, caller)| with_last_use(key_view(hash, caller, now), used.get(hash)))
        .collect();
    Ok(Json(json!({ "keys": views })))
}

/// The JSON for a key. Its id is the hash of the key, which grants no access.
#[must_use]
pub fn key_view(hash: &KeyHash, caller: &Caller, now: Timestamp) -> Value {
    json!({
        "id": hash.to_string(),
        "name": caller.name,
        "scopes": caller.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "app": caller.app,
        "installations": caller.installations,
        "calls": caller.calls.as_ref().map(|calls| calls.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "quota": caller.quota.map(|quota| quota.to_string()),
        "createdAt": caller.created_at.to_string(),
        "expiresAt": caller.expires_at.map(|at| at.to_string()),
        "live": caller.is_live(now),
    })
}

/// The JSON for a key, with the day on which it was used last.
#[must_use]
pub fn with_last_use(mut view: Value, day: Option<&Day>) -> Value {
    view["lastUsedOn"] = json!(day);
    view
}

/// The body of a request to rotate a key.
#[derive(Debug, Deserialize, Serialize)]
pub struct RotateKey {
    /// How long the old key still works, in milliseconds.
    pub overlap_ms: u64,
}

async fn rotate_key(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(key): Path<String>,
    JsonBody(request): JsonBody<RotateKey>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let hash: KeyHash = key.parse().map_err(|()| unknown_key())?;
    let (writer, now) = (&broker.0.writer, broker.0.reader.now());
    let overlap = Duration::from_millis(request.overlap_ms);
    let rotated = writer.rotate_caller(&hash, now, overlap).await?;
    let rotated = rotated.map_err(|reason| match reason {
        NotRotatable::NotLive => unknown_key(),
        NotRotatable::OfAFile => Error::new(ErrorKind::RequestInvalid, reason.to_string()),
    })?;
    let name = &rotated.rotation.successor.name;
    info!(key = ?hash, name, "a caller key was rotated");
    let entry = requester.entry(now, Action::KeyRotated).on_key(&hash, name);
    broker.0.audit.record(entry).await;
    Ok((StatusCode::CREATED, Json(rotated_view(&rotated))))
}

/// The JSON for a rotated key: the new key, and when the old one ends.
#[must_use]
pub fn rotated_view(rotated: &RotatedKey) -> Value {
    let key = rotated.key.expose_secret();
    let ends_at = rotated.rotation.ending.expires_at;
    json!({
        "id": KeyHash::of(key).to_string(),
        "name": rotated.rotation.successor.name,
        "key": key,
        "oldEndsAt": ends_at.map(|at| at.to_string()),
    })
}

fn unknown_key() -> Error {
    Error::new(ErrorKind::KeyNotFound, "There is no such key")
}

async fn revoke_key(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(key): Path<String>,
) -> Result<StatusCode, Error> {
    let hash: KeyHash = key.parse().map_err(|()| unknown_key())?;
    let now = broker.0.reader.now();
    if !broker.0.writer.revoke_caller(&hash, now).await? {
        return Err(unknown_key());
    }
    info!(key = ?hash, "a caller key was revoked");
    let revoked = broker.0.reader.caller(&hash).await;
    let name = revoked.ok().flatten().map(|caller| caller.name);
    let entry = requester.entry(now, Action::KeyRevoked);
    let entry = entry.on_key(&hash, &name.unwrap_or_default());
    broker.0.audit.record(entry).await;
    Ok(StatusCode::NO_CONTENT)
}
