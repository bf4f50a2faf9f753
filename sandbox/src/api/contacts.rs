//! `/contacts`.

pub(super) mod search;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::Caller;
use super::caller::Agency;
use super::page::PageMeta;
use crate::app::App;
use crate::clock::iso;
use crate::directory::Location;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject, missing};

/// The fields by which GHL recognises duplicate contacts.
const DUPLICATE_FIELDS: [&str; 2] = ["email", "phone"];

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let id = query.required("locationId")?;
    let limit = query.number("limit", 20)?;
    if !(1..=100).contains(&limit) {
        return Err(ApiError::invalid(["limit must not be greater than 100"]));
    }
    let search = query.get("query").map(str::to_lowercase);
    let wanted = |contact: &&Map<String, Value>| matches(contact, search.as_deref());
    let mut world = app.world();
    let location = caller.location(&mut world, id, Agency::Refused)?;
    let total = location.contacts.iter().filter(wanted).count();
    // Every id sorts before a tilde.
    let start = query.get("startAfterId").unwrap_or("~");
    let mut rest = location.contacts.before(start).filter(wanted);
    let contacts: Vec<_> = rest.by_ref().take(limit).collect();
    let left = rest.count();
    let meta = PageMeta {
        total,
        shown_before: total - left - contacts.len(),
        limit,
        has_next: left > 0,
    };
    let path = format!("/contacts/?locationId={id}&limit={limit}");
    let meta = meta.describe(&headers, &path, contacts.last().copied(), "dateAdded");
    Ok(Json(
        json!({"contacts": contacts, "count": total, "meta": meta}),
    ))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let id = app.ids.record(20);
    let now = iso(app.clock.now_ms());
    let mut world = app.world();
    let location_id = body
        .text("locationId")
        .ok_or_else(|| missing("locationId"))?;
    let location = caller.location(&mut world, location_id, Agency::Refused)?;
    if let Some((contact, field)) = duplicate(location, &body) {
        return Err(duplicated(&contact, field));
    }
    let contact = add(location, id, body, &now);
    Ok((StatusCode::CREATED, Json(json!({"contact": contact}))))
}

pub(super) async fn upsert(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let id = app.ids.record(20);
    let trace = app.ids.uuid();
    let now = iso(app.clock.now_ms());
    let mut world = app.world();
    let location_id = body
        .text("locationId")
        .ok_or_else(|| missing("locationId"))?;
    let location = caller.location(&mut world, location_id, Agency::Refused)?;
    let known = duplicate(location, &body).map(|(contact, _)| contact);
    let new = known.is_none();
    let contact = match known {
        None => add(location, id, body, &now),
        Some(known) => change(location, &known, body, now),
    };
    Ok(Json(
        json!({"new": new, "contact": contact, "traceId": trace}),
    ))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let mut world = app.world();
    let location = caller.own_location(&mut world)?;
    let contact = location.contacts.get(&id).ok_or_else(not_found)?;
    Ok(Json(json!({"contact": contact})))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let now = iso(app.clock.now_ms());
    let mut world = app.world();
    let location = caller.own_location(&mut world)?;
    location.contacts.get(&id).ok_or_else(not_found)?;
    if let Some((contact, field)) = duplicate(location, &body)
        && contact != id
    {
        return Err(duplicated(&contact, field));
    }
    let contact = change(location, &id, body, now);
    Ok(Json(json!({"succeded": true, "contact": contact})))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let mut world = app.world();
    let location = caller.own_location(&mut world)?;
    let contact = location.contacts.remove(&id).ok_or_else(not_found)?;
    for key in match_keys(&contact) {
        location.contact_ids.remove(&key);
    }
    Ok(Json(json!({"succeded": true})))
}

fn not_found() -> ApiError {
    ApiError::not_found("Contact not found")
}

fn duplicated(contact: &str, field: &str) -> ApiError {
    ApiError::bad_request("This location does not allow duplicated contacts.").with(
        "meta",
        json!({"contactId": contact, "matchingField": field}),
    )
}

/// The contact that `body` would duplicate, and the matching field.
fn duplicate(location: &Location, body: &JsonObject) -> Option<(String, &'static str)> {
    DUPLICATE_FIELDS.into_iter().find_map(|field| {
        let contact = location
            .contact_ids
            .get(&match_key(field, body.text(field)?))?;
        Some((contact.clone(), field))
    })
}

fn add(location: &mut Location, id: String, body: JsonObject, now: &str) -> Map<String, Value> {
    let mut contact = body.0;
    for (name, value) in [
        ("id", json!(id)),
        ("dateAdded", json!(now)),
        ("dateUpdated", json!(now)),
    ] {
        contact.insert(name.to_owned(), value);
    }
    for (name, value) in [("tags", json!([])), ("customFields", json!([]))] {
        contact.entry(name).or_insert(value);
    }
    for key in match_keys(&contact) {
        location.contact_ids.insert(key, id.clone());
    }
    if let Some(gone) = location.contacts.put(id, contact.clone()) {
        for key in match_keys(&gone) {
            location.contact_ids.remove(&key);
        }
    }
    contact
}

fn change(location: &mut Location, id: &str, body: JsonObject, now: String) -> Map<String, Value> {
    let Some(contact) = location.contacts.get_mut(id) else {
        return Map::new();
    };
    for key in match_keys(contact) {
        location.contact_ids.remove(&key);
    }
    let owner = contact.get("locationId").cloned();
    contact.extend(body.0);
    contact.extend(owner.map(|owner| ("locationId".to_owned(), owner)));
    contact.insert("id".to_owned(), json!(id));
    contact.insert("dateUpdated".to_owned(), Value::String(now));
    for key in match_keys(contact) {
        location.contact_ids.insert(key, id.to_owned());
    }
    contact.clone()
}

/// Whether a text field contains `part`, which is in lower case.
pub(super) fn matches(contact: &Map<String, Value>, part: Option<&str>) -> bool {
    part.is_none_or(|part| {
        ["firstName", "lastName", "name", "email", "phone"]
            .into_iter()
            .filter_map(|name| contact.get(name).and_then(Value::as_str))
            .any(|text| text.to_lowercase().contains(part))
    })
}

fn match_keys(contact: &Map<String, Value>) -> Vec<String> {
    DUPLICATE_FIELDS
        .into_iter()
        .filter_map(|field| Some(match_key(field, contact.get(field)?.as_str()?)))
        .collect()
}

fn match_key(field: &str, value: &str) -> String {
    format!("{field}:{}", value.to_lowercase())
}
