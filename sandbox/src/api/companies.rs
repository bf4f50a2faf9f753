//! `/companies`.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};

use super::Caller;
use super::caller::no_access;
use crate::error::ApiError;

pub(super) async fn show(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if caller.agency()? != id {
        return Err(no_access());
    }
    Ok(Json(json!({
        "company": {
            "id": id,
            "name": "Northwind Sandbox Agency",
            "email": "agency@sandbox.invalid",
            "timezone": "America/New_York",
            "country": "US",
            "status": "active",
        }
    })))
}
