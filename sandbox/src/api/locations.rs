//! `/locations`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::caller::{Agency, no_access};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let mut world = app.world();
    let location = caller.location(&mut world, &id, Agency::Admitted)?;
    Ok(Json(json!({"location": location.describe()})))
}

pub(super) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let skip = query.number("skip", 0)?;
    let limit = query.number("limit", 10)?;
    let company = caller.subject().company();
    if query.get("companyId").is_some_and(|id| id != &**company) {
        return Err(no_access());
    }
    let own = caller.subject().location();
    let world = app.world();
    let visible = world
        .directory
        .of_company(company)
        .filter(|location| own.is_none_or(|own| location.id == *own));
    let page = |locations: &mut dyn Iterator<Item = &crate::directory::Location>| {
        locations
            .skip(skip)
            .take(limit)
            .map(crate::directory::Location::describe)
            .collect::<Vec<_>>()
    };
    let locations = if query.get("order") == Some("desc") {
        page(&mut visible.rev())
    } else {
        page(&mut { visible })
    };
    Ok(Json(json!({"locations": locations})))
}
