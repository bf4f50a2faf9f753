//! `/marketplace`: uninstalling the app.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::Caller;
use super::caller::{Agency, no_access};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject};

/// Uninstalls the app from the location or company that the body or the query names.
pub(super) async fn uninstall(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(app_id): Path<String>,
    query: Fields,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let named = |name| body.text(name).or_else(|| query.get(name));
    let identity = &caller.claims.identity;
    if app_id != identity.app() && app.apps.client_of(&app_id).is_some() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "The token does not have access to this app.",
        ));
    }
    let subject = {
        let mut world = app.world();
        match (named("locationId"), named("companyId")) {
            (Some(id), _) => {
                let location = caller.location(&mut world, id, Agency::Admitted)?;
                location.subject()
            }
            (None, Some(id)) if caller.agency()? == id => caller.subject().clone(),
            (None, Some(_)) => return Err(no_access()),
            (None, None) => {
                return Err(ApiError::invalid([
                    "locationId or companyId should not be empty",
                ]));
            }
        }
    };
    app.uninstall(&identity.client, subject);
    Ok(Json(json!({"success": true})))
}
