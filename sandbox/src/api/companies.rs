//! `/companies`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::caller::no_access;
use crate::app::App;
use crate::error::ApiError;

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if caller.agency()? != id {
        return Err(no_access());
    }
    let name = app.world().directory.company_name(&id);
    Ok(Json(json!({
        "company": {
            "id": id,
            "name": name,
            "email": "agency@sandbox.invalid",
            "timezone": "America/New_York",
            "country": "US",
            "status": "active",
        }
    })))
}
