//! The apps of the store and of this broker.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Serialize;
use store::audit::Action;
use store::{AppName, ClientId};
use utoipa::ToSchema;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::PathName;
use crate::audit::Requester;

/// All apps.
#[derive(Serialize, ToSchema)]
#[schema(as = Apps)]
pub(super) struct Listed {
    apps: Vec<ListedApp>,
}

/// An app of this broker's settings, or one that only the store has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = App)]
pub(crate) struct ListedApp {
    /// The name that the settings give it.
    #[schema(value_type = String, example = "default")]
    pub(crate) name: AppName,
    /// Its client id at GHL. `null` if this broker does not know the app.
    #[schema(value_type = Option<String>)]
    pub(crate) client_id: Option<ClientId>,
    /// Its id at GHL, as the store has it. `null` before its first installation.
    pub(crate) app_id_in_store: Option<String>,
    /// Why this broker cannot use it, such as that another app has its name in the store.
    pub(crate) problem: Option<String>,
}

/// List the apps
///
/// Those that this broker knows, and those that the store has.
#[utoipa::path(get, path = "/v1/apps", operation_id = "listApps", responses(
    (status = 200, description = "All apps", body = Listed),
))]
pub(super) async fn list(State(broker): State<Broker>) -> Result<Json<Listed>, Error> {
    let apps = all(&broker).await?;
    Ok(Json(Listed { apps }))
}

/// All apps: those that this broker knows, and those that the store has.
///
/// # Errors
/// 503 if the store is unavailable.
pub(crate) async fn all(broker: &Broker) -> Result<Vec<ListedApp>, Error> {
    let named = broker.0.writer.named_apps().await?;
    let known = broker.0.worker.apps.current();
    let id_of = |name: &AppName| named.iter().find(|(its, _)| its == name).map(|(_, id)| id);
    let mut apps: Vec<ListedApp> = known
        .apps
        .iter()
        .map(|app| ListedApp {
            name: app.name.clone(),
            client_id: Some(app.client.clone()),
            app_id_in_store: id_of(&app.name).cloned(),
            problem: app.identity.problem(),
        })
        .collect();
    let others = named.iter().filter(|(name, _)| known.named(name).is_none());
    apps.extend(others.map(|(name, id)| ListedApp {
        name: name.clone(),
        client_id: None,
        app_id_in_store: Some(id.clone()),
        problem: None,
    }));
    Ok(apps)
}

/// Free the name of an app
///
/// Another app at GHL can have it then.
#[utoipa::path(delete, path = "/v1/apps/{name}", operation_id = "freeAppName", params(
    ("name" = String, Path, description = "The name of the app"),
), responses(
    (status = 204, description = "The name is free"),
    (status = 409, description = "The app has installations that are refreshed"),
))]
pub(super) async fn free(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(name): PathName,
) -> Result<StatusCode, Error> {
    free_name(&broker, &requester, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Frees the name of an app, and records it.
///
/// # Errors
/// 409 if the app has installations that are refreshed. 503 if the store is unavailable.
pub(crate) async fn free_name(
    broker: &Broker,
    requester: &Requester,
    name: &str,
) -> Result<(), Error> {
    let name: AppName = name
        .parse()
        .map_err(|_| Error::new(ErrorKind::AppUnknown, "There is no app of this name"))?;
    if !broker.0.writer.free_app(&name).await? {
        let message = format!("The app {name} has installations that are refreshed");
        return Err(Error::new(ErrorKind::AppInUse, message)
            .with_hint("revoke them first: `evergreen installations list --app` shows them"));
    }
    let entry = requester.entry(broker.0.reader.now(), Action::AppNameFreed);
    broker.0.audit.record(entry.with(name.as_str())).await;
    Ok(())
}
