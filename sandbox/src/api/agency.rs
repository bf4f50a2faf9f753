//! The endpoints for agencies: tokens for their locations, and the locations with the app.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::Caller;
use crate::app::{App, World};
use crate::clock::iso;
use crate::directory::Location;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::oauth::token_response;
use crate::subject::Subject;
use crate::token::{Claims, Use};

/// `POST /oauth/locationToken`. The token belongs to the agency's grant and ends with it. It has no refresh
/// token of its own.
pub(super) async fn location_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let company = caller.agency()?;
    let fields = Fields::body(&headers, &body)?;
    let company_id = fields.required("companyId")?;
    let location_id = fields.required("locationId")?;
    if company_id != company {
        return Err(not_this_company());
    }
    let issued_ms = app.clock.now_ms();
    let (claims, token_bytes) = {
        let mut world = app.world();
        let location = world.directory.find(location_id);
        let location = location
            .filter(|location| *location.company == *company)
            .ok_or_else(|| ApiError::bad_request("Location not found"))?;
        let subject = Subject::Location {
            location: location.id.clone(),
            company: location.company.clone(),
        };
        let claims = Claims {
            token_use: Use::Access,
            grant: caller.claims.grant,
            subject,
            scope: caller.claims.scope.clone(),
            number: app.ids.serial(),
            issued_ms,
            expires_ms: issued_ms + world.settings.token_lifetime_ms,
        };
        (claims, world.settings.token_bytes)
    };
    let mut response = token_response::access(&app, &claims, token_bytes);
    response.insert("locationId".to_owned(), json!(location_id));
    Ok(Json(response))
}

/// `GET /oauth/installedLocations`.
pub(super) async fn installed_locations(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let company = caller.agency()?;
    if query.required("companyId")? != company {
        return Err(not_this_company());
    }
    query.required("appId")?;
    let skip = query.number("skip", 0)?;
    let limit = query.number("limit", 20)?;
    let search = query.get("query").map(str::to_lowercase);
    let wanted_state = query.get("isInstalled").map(|text| text == "true");
    let world = app.world();
    let found: Vec<_> = world
        .directory
        .of_company(company)
        .filter(|location| query.get("locationId").is_none_or(|id| *location.id == *id))
        .filter(|location| {
            search
                .as_ref()
                .is_none_or(|part| location.name.to_lowercase().contains(part))
        })
        .map(|location| (location, installed_ms(&world, location)))
        .filter(|(_, installed)| wanted_state.is_none_or(|state| state == installed.is_some()))
        .collect();
    let page: Vec<_> = found
        .iter()
        .skip(skip)
        .take(limit)
        .map(|(location, installed)| {
            let mut entry = json!({
                "_id": *location.id,
                "name": location.name,
                "address": location.address(),
                "isInstalled": installed.is_some(),
            });
            if let Some(installed_ms) = installed {
                entry["installedAt"] = json!(iso(*installed_ms));
            }
            entry
        })
        .collect();
    Ok(Json(json!({
        "locations": page,
        "count": found.len(),
        "installToFutureLocations": true,
    })))
}

/// Since when the app is installed on a location, by itself or with its agency.
fn installed_ms(world: &World, location: &Location) -> Option<u64> {
    [&location.id, &location.company]
        .into_iter()
        .flat_map(|id| world.grants.of(id))
        .filter(|(_, grant)| !grant.revoked)
        .map(|(_, grant)| grant.granted_ms)
        .min()
}

fn not_this_company() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "The token does not have access to this company.",
    )
}
