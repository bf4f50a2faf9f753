//! The keys of callers.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use store::audit::{Action, Day};
use store::{AllowedCall, AppName, Caller, InstallationId, KeyHash, Quota, Scope, Timestamp};
use store_writer::key_rotation::NotRotatable;
use store_writer::writer::RotatedKey;
use tracing::info;
use utoipa::ToSchema;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, PathName};
use crate::audit::Requester;

/// The most characters of the name of a key. It is in logs, lists and pages.
const LONGEST_NAME: usize = 100;

/// The body of a request for a new caller key.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct NewKey {
    /// The name by which an operator revokes the key.
    #[schema(min_length = 1, example = "crm")]
    pub name: String,
    /// The scopes: `proxy`, `tokens`, `connect`, `admin`, `metrics` or `view`.
    #[schema(example = json!(["proxy"]))]
    pub scopes: Vec<String>,
    /// The app whose installations the key may use. `None` for those of all apps.
    pub app: Option<String>,
    /// The installations that the key may use. `None` for all.
    #[schema(value_type = Option<Vec<String>>)]
    pub installations: Option<Vec<InstallationId>>,
    /// The calls to GHL that the key may make, such as `GET /contacts/*`. `None` for all.
    #[schema(min_items = 1, max_items = 100)]
    pub calls: Option<Vec<String>>,
    /// The quota in calls per interval, such as `100/10s`. `None` for no limit.
    #[schema(example = "100/10s")]
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
        if self.name.chars().count() > LONGEST_NAME || self.name.contains(char::is_control) {
            return Err(format!(
                "the name of a key has at most {LONGEST_NAME} characters, and no control characters"
            ));
        }
        let scopes = self.scopes.iter().map(|scope| scope.parse::<Scope>());
        let scopes = scopes
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let app = self.app.map(|app| app.parse::<AppName>()).transpose();
        let app = app.map_err(|error| error.to_string())?;
        if scopes.contains(&Scope::Admin) && (app.is_some() || self.installations.is_some()) {
            return Err(
                "a key with the scope `admin` cannot be limited to one app or to installations: it can create any key"
                    .to_owned(),
            );
        }
        if scopes.contains(&Scope::View) && (app.is_some() || self.installations.is_some()) {
            return Err(
                "a key with the scope `view` cannot be limited to an app or to some installations: the console shows all"
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

/// A key that was made. It is shown only now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreatedKey)]
pub struct NewKeyView {
    /// The hash of the key. It names the key, and grants no access.
    id: String,
    name: String,
    /// The key itself.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, example = "evg_…")]
    key: SecretString,
    /// When the key ends that this one replaces. `null` if it had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    old_ends_at: Option<Option<String>>,
}

impl NewKeyView {
    /// The name of the key.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key itself.
    pub(crate) const fn key(&self) -> &SecretString {
        &self.key
    }

    /// When the key ends that this one replaces. `None` if it replaces none, or if that one had ended.
    pub(crate) fn old_ends_at(&self) -> Option<&str> {
        self.old_ends_at.as_ref()?.as_deref()
    }

    /// Of a rotated key: the new key, and when the old one ends.
    #[must_use]
    pub fn of_rotated(rotated: &RotatedKey) -> Self {
        let ends_at = rotated.rotation.ending.expires_at;
        Self {
            id: KeyHash::of(rotated.key.expose_secret()).to_string(),
            name: rotated.rotation.successor.name.clone(),
            key: rotated.key.clone(),
            old_ends_at: Some(ends_at.map(|at| at.to_string())),
        }
    }
}

fn exposed<S: Serializer>(key: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(key.expose_secret())
}

/// Create a caller key
///
/// The response has the key, which is shown only once.
#[utoipa::path(post, path = "/v1/keys", operation_id = "createKey", request_body = NewKey, responses(
    (status = 201, description = "The key", body = NewKeyView),
))]
pub(super) async fn create(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<NewKeyView>), Error> {
    let made = make(&broker, &requester, request).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Makes a key, and records it.
///
/// # Errors
/// 400 if a part of the request is invalid or contradicts another. 503 if the store is unavailable.
pub(crate) async fn make(
    broker: &Broker,
    requester: &Requester,
    request: NewKey,
) -> Result<NewKeyView, Error> {
    let caller = request
        .into_caller(broker.0.reader.now())
        .map_err(|reason| Error::new(ErrorKind::RequestInvalid, reason))?;
    let key = broker.0.writer.create_caller(&caller).await?;
    info!(name = caller.name, "a caller key was created");
    let hash = KeyHash::of(key.expose_secret());
    let entry = requester.entry(broker.0.reader.now(), Action::KeyCreated);
    let entry = entry.on_key(&hash, &caller.name);
    broker.0.audit.record(entry.with(summary(&caller))).await;
    Ok(NewKeyView {
        id: hash.to_string(),
        name: caller.name,
        key,
        old_ends_at: None,
    })
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

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyView>,
}

/// List the caller keys
///
/// Also expired and revoked ones. The keys themselves are not stored.
#[utoipa::path(get, path = "/v1/keys", operation_id = "listKeys", responses(
    (status = 200, description = "All keys", body = Keys),
))]
pub(super) async fn list(State(broker): State<Broker>) -> Result<Json<Keys>, Error> {
    let now = broker.0.reader.now();
    let callers = broker.0.writer.callers().await?;
    let used = broker.0.writer.key_uses().await?;
    let views = callers
        .iter()
        .map(|(hash, caller)| KeyView::of(hash, caller, now, used.get(hash)));
    Ok(Json(Keys {
        keys: views.collect(),
    }))
}

/// The JSON for a key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub struct KeyView {
    /// The hash of the key. It names the key, and grants no access.
    id: String,
    name: String,
    /// Its scopes.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<&'static str>,
    /// The app whose installations it may use. `null` for those of all apps.
    app: Option<String>,
    /// The installations that it may use. `null` for all.
    #[schema(value_type = Option<Vec<String>>)]
    installations: Option<Vec<InstallationId>>,
    /// The calls to GHL that it may make. `null` for all.
    calls: Option<Vec<String>>,
    /// The calls per interval. `null` for no limit.
    quota: Option<String>,
    created_at: String,
    /// `null` for never.
    expires_at: Option<String>,
    /// Whether it works now.
    live: bool,
    /// The day, in UTC, on which it was used last. `null` if it never was.
    #[schema(value_type = Option<String>)]
    last_used_on: Option<Day>,
}

impl KeyView {
    /// `used_on`: the day on which the key was used last.
    #[must_use]
    pub fn of(hash: &KeyHash, caller: &Caller, now: Timestamp, used_on: Option<&Day>) -> Self {
        let calls = caller.calls.as_ref();
        Self {
            id: hash.to_string(),
            name: caller.name.clone(),
            scopes: caller.scopes.iter().map(|scope| scope.as_str()).collect(),
            app: caller.app.as_ref().map(ToString::to_string),
            installations: caller.installations.clone(),
            calls: calls.map(|calls| calls.iter().map(ToString::to_string).collect()),
            quota: caller.quota.map(|quota| quota.to_string()),
            created_at: caller.created_at.to_string(),
            expires_at: caller.expires_at.map(|at| at.to_string()),
            live: caller.is_live(now),
            last_used_on: used_on.copied(),
        }
    }
}

/// The body of a request to rotate a key.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct RotateKey {
    /// How long the old key still works, in milliseconds.
    pub overlap_ms: u64,
}

/// Replace a caller key
///
/// The new key may do the same. The old one works for a while longer, so that its caller has time to change over.
#[utoipa::path(post, path = "/v1/keys/{key}/rotate", operation_id = "rotateKey", request_body = RotateKey, params(
    ("key" = String, Path, description = "The id of the key"),
), responses(
    (status = 201, description = "The new key, and when the old one ends", body = NewKeyView),
    (status = 404, description = "There is no such key, or it works no more"),
))]
pub(super) async fn rotate(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(key): PathName,
    JsonBody(request): JsonBody<RotateKey>,
) -> Result<(StatusCode, Json<NewKeyView>), Error> {
    let overlap = Duration::from_millis(request.overlap_ms);
    let rotated = replace(&broker, &requester, &key, overlap).await?;
    Ok((StatusCode::CREATED, Json(rotated)))
}

/// Replaces the key with this id, and records it. The old one works for the `overlap`.
///
/// # Errors
/// 404 if there is no such key, or if it has ended. 400 if its process would bring it back. 503 if the store is
/// unavailable.
pub(crate) async fn replace(
    broker: &Broker,
    requester: &Requester,
    id: &str,
    overlap: Duration,
) -> Result<NewKeyView, Error> {
    let hash: KeyHash = id.parse().map_err(|()| unknown_key())?;
    let (writer, now) = (&broker.0.writer, broker.0.reader.now());
    let rotated = writer.rotate_caller(&hash, now, overlap).await?;
    let rotated = rotated.map_err(|reason| match reason {
        NotRotatable::NotLive => unknown_key(),
        NotRotatable::OfAFile => Error::new(ErrorKind::RequestInvalid, reason.to_string()),
    })?;
    let name = &rotated.rotation.successor.name;
    info!(key = ?hash, name, "a caller key was rotated");
    let entry = requester.entry(now, Action::KeyRotated).on_key(&hash, name);
    broker.0.audit.record(entry).await;
    Ok(NewKeyView::of_rotated(&rotated))
}

pub(crate) fn unknown_key() -> Error {
    Error::new(ErrorKind::KeyNotFound, "There is no such key")
}

/// Revoke a caller key
///
/// It ends within a second.
#[utoipa::path(delete, path = "/v1/keys/{key}", operation_id = "revokeKey", params(
    ("key" = String, Path, description = "The id of the key"),
), responses(
    (status = 204, description = "The key is revoked"),
    (status = 404, description = "There is no such key"),
))]
pub(super) async fn revoke(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(key): PathName,
) -> Result<StatusCode, Error> {
    end(&broker, &requester, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes the key with this id, and records it. Returns its name.
///
/// # Errors
/// 404 if there is no such key. 503 if the store is unavailable.
pub(crate) async fn end(broker: &Broker, requester: &Requester, id: &str) -> Result<String, Error> {
    let hash: KeyHash = id.parse().map_err(|()| unknown_key())?;
    let now = broker.0.reader.now();
    if !broker.0.writer.revoke_caller(&hash, now).await? {
        return Err(unknown_key());
    }
    info!(key = ?hash, "a caller key was revoked");
    let revoked = broker.0.reader.caller(&hash).await;
    let name = revoked.ok().flatten().map(|caller| caller.name);
    let name = name.unwrap_or_default();
    let entry = requester.entry(now, Action::KeyRevoked);
    broker.0.audit.record(entry.on_key(&hash, &name)).await;
    Ok(name)
}
