//! The apps of the store and of this broker.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Value, json};
use store::AppName;
use store::audit::Action;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::audit::Requester;

/// All apps by their names: those that this broker knows, and those that the store has.
pub(super) async fn list(State(broker): State<Broker>) -> Result<Json<Value>, Error> {
    let named = broker.0.writer.named_apps().await?;
    let known = broker.0.worker.apps.current();
    let id_of = |name: &AppName| named.iter().find(|(its, _)| its == name).map(|(_, id)| id);
    let mut apps: Vec<Value> = known
        .apps
        .iter()
        .map(|app| {
            json!({
                "name": app.name,
                "clientId": app.client,
                "appIdInStore": id_of(&app.name),
                "problem": app.identity.problem(),
            })
        })
        .collect();
    let others = named.iter().filter(|(name, _)| known.named(name).is_none());
    apps.extend(others.map(
        |(name, id)| json!({ "name": name, "clientId": null, "appIdInStore": id, "problem": null }),
    ));
    Ok(Json(json!({ "apps": apps })))
}

/// Frees a name, so that another app at GHL can have it.
pub(super) async fn free(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
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
    Ok(StatusCode::NO_CONTENT)
}
