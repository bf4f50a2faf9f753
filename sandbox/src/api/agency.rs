//! `POST /oauth/locationToken`: tokens for the locations of an agency.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::Caller;
use crate::app::{App, World};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::grants::{Issue, Refusal};
use crate::oauth::{Spelling, token_response};
use crate::subject::Subject;
use crate::token::GrantId;

/// `POST /oauth/locationToken`. The token and its refresh token are a grant of the location's own, which ends
/// with the location's installation. Minting consumes nothing.
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
    let (issue, token_bytes) = {
        let mut world = app.world();
        let issue = mint(&app, &mut world, &caller, location_id)?;
        (issue, world.settings.token_bytes)
    };
    let response = token_response::of_location(&app, &issue, token_bytes);
    Ok(Json(Spelling::of(&headers).spell(response)))
}

/// `POST /oauth/location-token`, which exists only in API version 3.
pub(super) async fn location_token_v3(
    app: State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Map<String, Value>>, ApiError> {
    match Spelling::of(&headers) {
        Spelling::Camel => location_token(app, caller, headers, body).await,
        Spelling::Snake => Err(not_in_version(&uri.to_string(), &headers)),
    }
}

/// Issues and counts a location's tokens.
fn mint(app: &App, world: &mut World, caller: &Caller, id: &str) -> Result<Issue, ApiError> {
    let serial = app.ids.serial();
    let now_ms = app.clock.now_ms();
    let rules = world.settings.grants();
    let company = caller.subject().company();
    restore_installation(app, world, caller);
    let World {
        directory,
        grants,
        installations,
        companies,
        ..
    } = world;
    let location = directory.get(id);
    let Some(location) = location.filter(|location| location.company == *company) else {
        companies.refused(company, None);
        return Err(ApiError::bad_request("Location not found"));
    };
    let identity = &caller.claims.identity;
    let issued = installations
        .installed_ms(identity.app(), location)
        .ok_or("App is not installed on this location")
        .and_then(|_| {
            let subject = Subject::Location {
                location: location.id.clone(),
                company: location.company.clone(),
            };
            let grant = GrantId(app.ids.number());
            grants
                .mint(identity, subject, (grant, serial), rules, now_ms)
                .map_err(|refusal| match refusal {
                    Refusal::Inactive => "Location is not active",
                    _ => "Location not found",
                })
        });
    match &issued {
        Ok(_) => companies.minted(company, &location.id),
        Err(_) => companies.refused(company, Some(&location.id)),
    }
    issued.map_err(ApiError::bad_request)
}

/// A restarted sandbox has lost the installation that a valid token proves.
pub(super) fn restore_installation(app: &App, world: &mut World, caller: &Caller) {
    let identity = &caller.claims.identity;
    let locations = world.directory.count(identity.subject.company());
    world
        .installations
        .restore(identity, locations, app.clock.now_ms());
}

pub(super) fn not_this_company() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "The token does not have access to this company.",
    )
}

/// GHL's error for a path that the version of the `Version` header does not have.
pub(super) fn not_in_version(path: &str, headers: &HeaderMap) -> ApiError {
    let version = headers
        .get("version")
        .and_then(|version| version.to_str().ok())
        .unwrap_or_default();
    let message = if version == "v3" {
        format!(
            "Endpoint {path} not available in API version v3. This endpoint was removed in \
             version v3. Please use a version before v3."
        )
    } else {
        format!("Endpoint {path} not available in API version {version}.")
    };
    ApiError::bad_request(&message).with("error", "Bad Request")
}
