//! `/marketplace`: uninstalling the app.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::caller::{Agency, no_access};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::{Fields, JsonObject};
use crate::subject::Subject;
use crate::webhooks::{Event, Kind};

/// Revokes the grants of the location or company that the body names, and sends a webhook.
pub(super) async fn uninstall(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(_app_id): Path<String>,
    query: Fields,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let named = |name| body.text(name).or_else(|| query.get(name));
    let subject = {
        let mut world = app.world();
        let subject = match (named("locationId"), named("companyId")) {
            (Some(id), _) => {
                let location = caller.location(&mut world, id, Agency::Admitted)?;
                Subject::Location {
                    location: location.id.clone(),
                    company: location.company.clone(),
                }
            }
            (None, Some(id)) if caller.agency()? == id => caller.subject().clone(),
            (None, Some(_)) => return Err(no_access()),
            (None, None) => {
                return Err(ApiError::invalid([
                    "locationId or companyId should not be empty",
                ]));
            }
        };
        world.grants.revoke(subject.id(), app.ids.serial());
        subject
    };
    app.announce(Event::new(Kind::Uninstall, subject));
    Ok(Json(json!({"success": true})))
}
