//! `/opportunities`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::Caller;
use super::caller::Agency;
use super::page::PageMeta;
use crate::app::App;
use crate::clock::iso;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject, missing};

const DEFAULT_PAGE: usize = 20;
const MAX_PAGE: usize = 100;

const STATUSES: [&str; 4] = ["open", "won", "lost", "abandoned"];

/// The filters of the search by `GET`, with the fields that they compare.
const FILTERS: [(&str, &str); 6] = [
    ("pipeline_id", "pipelineId"),
    ("pipeline_stage_id", "pipelineStageId"),
    ("contact_id", "contactId"),
    ("status", "status"),
    ("assigned_to", "assignedTo"),
    ("id", "id"),
];

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    for name in ["pipelineId", "locationId", "name", "contactId"] {
        body.text(name).ok_or_else(|| missing(name))?;
    }
    let status = body.text("status");
    if !status.is_some_and(|status| STATUSES.contains(&status)) {
        return Err(ApiError::invalid(["status must be a valid enum value"]));
    }
    let id = app.ids.record(20);
    let now = iso(app.clock.now_ms());
    let location_id = body.text("locationId").unwrap_or_default();
    let mut world = app.world();
    let location = caller.location(&mut world, location_id, Agency::Refused)?;
    let mut opportunity = body.0;
    for (name, value) in [
        ("id", &id),
        ("createdAt", &now),
        ("updatedAt", &now),
        ("lastStatusChangeAt", &now),
    ] {
        opportunity.insert(name.to_owned(), json!(value));
    }
    location.opportunities.put(id, opportunity.clone());
    Ok((
        StatusCode::CREATED,
        Json(json!({"opportunity": opportunity})),
    ))
}

/// `GET /opportunities/search`, newest first.
pub(super) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    // Version 3 spells it as all other operations do.
    let id = query.get("location_id").or_else(|| query.get("locationId"));
    let id = id.ok_or_else(|| missing("location_id"))?;
    let limit = query.number("limit", DEFAULT_PAGE)?;
    let page = query.number("page", 1)?.max(1);
    check_limit(limit)?;
    let part = query.get("q").map(str::to_lowercase);
    let wanted = |opportunity: &&Map<String, Value>| {
        is_named(opportunity, part.as_deref())
            && FILTERS.into_iter().all(|(filter, field)| {
                let wanted = query.get(filter).filter(|wanted| *wanted != "all");
                wanted.is_none_or(|wanted| opportunity.get(field) == Some(&json!(wanted)))
            })
    };
    let mut world = app.world();
    let location = caller.location(&mut world, id, Agency::Refused)?;
    // Every id sorts before a tilde.
    let start = query.get("startAfterId").unwrap_or("~");
    let skip = match query.get("startAfterId") {
        Some(_) => 0,
        None => (page - 1).saturating_mul(limit),
    };
    let total = location.opportunities.iter().filter(wanted).count();
    let mut rest = location
        .opportunities
        .before(start)
        .filter(wanted)
        .skip(skip);
    let found: Vec<_> = rest.by_ref().take(limit).collect();
    let left = rest.count();
    let meta = PageMeta {
        total,
        shown_before: total.saturating_sub(left + found.len()),
        limit,
        has_next: left > 0,
    };
    let path = format!("/opportunities/search?location_id={id}&limit={limit}");
    let meta = meta.describe(&headers, &path, found.last().copied(), "createdAt");
    Ok(Json(
        json!({"opportunities": found, "meta": meta, "aggregations": {}}),
    ))
}

/// `POST /opportunities/search`, newest first.
pub(super) async fn search_by_body(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let id = body
        .text("locationId")
        .ok_or_else(|| missing("locationId"))?;
    let number = |name: &str, default| match body.0.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| ApiError::invalid([format!("{name} must be a number")])),
    };
    let limit = number("limit", DEFAULT_PAGE)?;
    let skip = number("page", 1)?.saturating_sub(1).saturating_mul(limit);
    check_limit(limit)?;
    let part = body.text("query").map(str::to_lowercase);
    let mut world = app.world();
    let location = caller.location(&mut world, id, Agency::Refused)?;
    let found: Vec<_> = location
        .opportunities
        .iter()
        .rev()
        .filter(|opportunity| is_named(opportunity, part.as_deref()))
        .collect();
    let page: Vec<_> = found.iter().skip(skip).take(limit).collect();
    Ok(Json(
        json!({"opportunities": page, "total": found.len(), "aggregations": {}}),
    ))
}

fn is_named(opportunity: &Map<String, Value>, part: Option<&str>) -> bool {
    let name = opportunity.get("name").and_then(Value::as_str);
    part.is_none_or(|part| name.is_some_and(|name| name.to_lowercase().contains(part)))
}

fn check_limit(limit: usize) -> Result<(), ApiError> {
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(())
    } else {
        Err(ApiError::invalid([format!(
            "limit must not be greater than {MAX_PAGE}"
        )]))
    }
}
