//! Folders, and changes of media files.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use crate::api::Caller;
use crate::api::caller::Agency;
use crate::app::{App, World};
use crate::directory::Location;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject, missing};

/// `POST /medias/folder`.
pub(in crate::api) async fn create_folder(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let name = body.text("name").ok_or_else(|| missing("name"))?.to_owned();
    let id = app.ids.record(24);
    let mut world = app.world();
    let location = location_of_body(&caller, &mut world, &body)?;
    let mut folder = Map::new();
    for (field, value) in [
        ("_id", json!(id)),
        ("altId", json!(*location.id)),
        ("altType", json!("location")),
        ("name", json!(name)),
        ("parentId", json!(body.text("parentId"))),
        ("type", json!("folder")),
        ("deleted", json!(false)),
    ] {
        folder.insert(field.to_owned(), value);
    }
    location.medias.put(id, folder.clone());
    Ok(Json(folder))
}

/// `POST /medias/{id}`.
pub(in crate::api) async fn rename(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let name = body.text("name").ok_or_else(|| missing("name"))?;
    let trace = app.ids.uuid();
    let mut world = app.world();
    let location = location_of_body(&caller, &mut world, &body)?;
    let media = location.medias.get_mut(&id).ok_or_else(not_found)?;
    media.insert("name".to_owned(), json!(name));
    Ok(Json(json!({"updated": true, "traceId": trace})))
}

/// `DELETE /medias/{id}`.
pub(in crate::api) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    query.required("altType")?;
    let location_id = query.required("altId")?;
    let mut world = app.world();
    let location = caller.location(&mut world, location_id, Agency::Refused)?;
    location.medias.remove(&id).ok_or_else(not_found)?;
    Ok(Json(json!({"deleted": true, "id": id})))
}

/// `PUT /medias/update-files`.
pub(in crate::api) async fn update_several(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Vec<Value>>, ApiError> {
    let mut world = app.world();
    let location = location_of_body(&caller, &mut world, &body)?;
    let files = listed(&body, "filesToBeUpdated", "id")?;
    let updated = files.into_iter().map(|(id, file)| {
        let media = location.medias.get_mut(id);
        let is_updated = media.is_some();
        if let (Some(media), Some(name)) = (media, file.get("name")) {
            media.insert("name".to_owned(), name.clone());
        }
        json!({"updated": is_updated, "id": id})
    });
    Ok(Json(updated.collect()))
}

/// `PUT /medias/delete-files`.
pub(in crate::api) async fn delete_several(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Vec<Value>>, ApiError> {
    if !matches!(body.text("status"), Some("deleted" | "trashed")) {
        return Err(ApiError::invalid(["status must be a valid enum value"]));
    }
    let mut world = app.world();
    let location = location_of_body(&caller, &mut world, &body)?;
    let files = listed(&body, "filesToBeDeleted", "_id")?;
    let deleted = files.into_iter().map(|(id, _)| {
        let is_deleted = location.medias.remove(id).is_some();
        json!({"deleted": is_deleted, "id": id})
    });
    Ok(Json(deleted.collect()))
}

/// The files of a list, with their ids.
fn listed<'b>(
    body: &'b JsonObject,
    list: &str,
    id: &str,
) -> Result<Vec<(&'b str, &'b Value)>, ApiError> {
    let files = body.0.get(list).and_then(Value::as_array);
    let files = files.ok_or_else(|| ApiError::invalid([format!("{list} must be an array")]))?;
    files
        .iter()
        .map(|file| Some((file.get(id)?.as_str()?, file)))
        .collect::<Option<_>>()
        .ok_or_else(|| missing(id))
}

fn location_of_body<'w>(
    caller: &Caller,
    world: &'w mut World,
    body: &JsonObject,
) -> Result<&'w mut Location, ApiError> {
    body.text("altType").ok_or_else(|| missing("altType"))?;
    let id = body.text("altId").ok_or_else(|| missing("altId"))?;
    caller.location(world, id, Agency::Refused)
}

fn not_found() -> ApiError {
    ApiError::not_found("File not found")
}
