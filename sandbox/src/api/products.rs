//! `/products`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Caller;
use super::caller::Agency;
use crate::app::App;
use crate::clock::iso;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject};

const TYPES: [&str; 4] = ["DIGITAL", "PHYSICAL", "SERVICE", "PHYSICAL/DIGITAL"];

/// The page size if the caller names none.
const DEFAULT_LIMIT: usize = 100;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let id = query.required("locationId")?;
    let offset = query.number("offset", 0)?;
    let limit = match query.number("limit", 0)? {
        0 => DEFAULT_LIMIT,
        limit => limit,
    };
    let search = query.get("search").map(str::to_lowercase);
    let ids: Option<Vec<&str>> = query.get("productIds").map(|ids| ids.split(',').collect());
    let wanted = |product: &&Map<String, Value>| {
        let text = |name| {
            product
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        search
            .as_ref()
            .is_none_or(|part| text("name").to_lowercase().contains(part))
            && ids.as_ref().is_none_or(|ids| ids.contains(&text("_id")))
    };
    let mut world = app.world();
    let location = caller.location(&mut world, id, Agency::Admitted)?;
    let mut found: Vec<_> = location.products.iter().filter(wanted).collect();
    if query.get("sortOrder") != Some("asc") {
        found.reverse();
    }
    let page: Vec<_> = found.iter().skip(offset).take(limit).collect();
    Ok(Json(
        json!({"products": page, "total": [{"total": found.len()}]}),
    ))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<(StatusCode, Json<Map<String, Value>>), ApiError> {
    check(&body)?;
    let id = app.ids.record(24);
    let now = iso(app.clock.now_ms());
    let mut world = app.world();
    let location_id = body.text("locationId").unwrap_or_default();
    let location = caller.location(&mut world, location_id, Agency::Admitted)?;
    let mut product = body.0;
    for (name, value) in [
        ("_id", json!(id)),
        ("createdAt", json!(now)),
        ("updatedAt", json!(now)),
    ] {
        product.insert(name.to_owned(), value);
    }
    product
        .entry("availableInStore")
        .or_insert(Value::Bool(false));
    location.products.put(id, product.clone());
    Ok((StatusCode::CREATED, Json(product)))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Fields,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let location_id = query.required("locationId")?;
    let mut world = app.world();
    let location = caller.location(&mut world, location_id, Agency::Admitted)?;
    let product = location.products.get(&id).ok_or_else(not_found)?;
    Ok(Json(product.clone()))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonObject,
) -> Result<Json<Map<String, Value>>, ApiError> {
    check(&body)?;
    let now = iso(app.clock.now_ms());
    let mut world = app.world();
    let location_id = body.text("locationId").unwrap_or_default();
    let location = caller.location(&mut world, location_id, Agency::Admitted)?;
    let product = location.products.get_mut(&id).ok_or_else(not_found)?;
    let created = product.get("createdAt").cloned().unwrap_or_default();
    product.extend(body.0);
    for (name, value) in [
        ("_id", json!(id)),
        ("createdAt", created),
        ("updatedAt", json!(now)),
    ] {
        product.insert(name.to_owned(), value);
    }
    Ok(Json(product.clone()))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let location_id = query.required("locationId")?;
    let mut world = app.world();
    let location = caller.location(&mut world, location_id, Agency::Admitted)?;
    location.products.remove(&id).ok_or_else(not_found)?;
    Ok(Json(json!({"status": true})))
}

/// Checks the required fields of a product.
fn check(body: &JsonObject) -> Result<(), ApiError> {
    let mut broken: Vec<String> = ["name", "locationId"]
        .into_iter()
        .filter(|name| body.text(name).is_none())
        .flat_map(|name| {
            [
                format!("{name} must be a string"),
                format!("{name} should not be empty"),
            ]
        })
        .collect();
    if !body
        .text("productType")
        .is_some_and(|kind| TYPES.contains(&kind))
    {
        broken.push(format!(
            "productType must be one of the following values: {}",
            TYPES.join(", ")
        ));
    }
    if !broken.is_empty() {
        return Err(ApiError::invalid(broken));
    }
    Ok(())
}

fn not_found() -> ApiError {
    ApiError::not_found("Product not found")
}
