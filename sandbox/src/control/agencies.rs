//! Agencies, their locations, and where the app is installed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::parse;
use crate::app::{App, World};
use crate::apps::app_id;
use crate::directory::COMPANY;
use crate::error::ApiError;
use crate::subject::{Subject, is_id};
use crate::webhooks::{Event, Kind};

const MAX_LOCATIONS: usize = 100_000;

/// The longest start of a location id that is taken from the id of its company.
const MAX_PREFIX: usize = 55;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewAgency {
    company_id: String,
    /// How many locations it has. Existing ones of an earlier call count.
    locations: usize,
    name: Option<String>,
}

/// `POST /_sandbox/agencies`: creates an agency with locations named `<companyId>Loc00001` and so on.
pub(crate) async fn create_agency(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let agency: NewAgency = parse(&body)?;
    check_id("companyId", &agency.company_id)?;
    if agency.locations > MAX_LOCATIONS {
        let message = format!("locations must not be greater than {MAX_LOCATIONS}");
        return Err(ApiError::invalid([message]));
    }
    let company: Arc<str> = agency.company_id.as_str().into();
    let prefix = company.get(..MAX_PREFIX).unwrap_or(&company);
    let location_id = |number: usize| format!("{prefix}Loc{number:05}");
    let mut events = Vec::new();
    let (name, count) = {
        let mut world = app.world();
        world
            .directory
            .open_company(&company, agency.name.as_deref());
        for number in 1..=agency.locations {
            events.extend(add_location(
                &app,
                &mut world,
                &location_id(number),
                &company,
                None,
            ));
        }
        (
            world.directory.company_name(&company),
            world.directory.count(&company),
        )
    };
    app.announce(events);
    Ok(Json(json!({
        "companyId": *company,
        "name": name,
        "locations": count,
        "firstLocationId": location_id(1),
        "lastLocationId": location_id(agency.locations.max(1)),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewLocation {
    company_id: Option<String>,
    location_id: Option<String>,
    name: Option<String>,
}

/// `POST /_sandbox/locations`: creates one location. Apps that its agency wants on future locations are
/// installed on it.
pub(crate) async fn create_location(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let location: NewLocation = parse(&body)?;
    let company: Arc<str> = location.company_id.as_deref().unwrap_or(COMPANY).into();
    check_id("companyId", &company)?;
    let id = location.location_id.unwrap_or_else(|| app.ids.hex(20));
    check_id("locationId", &id)?;
    let (events, described) = {
        let mut world = app.world();
        if world.directory.get(&id).is_some() {
            return Err(ApiError::bad_request("The location exists already"));
        }
        let name = location.name.as_deref();
        let events = add_location(&app, &mut world, &id, &company, name);
        let described = world.directory.get(&id).map(|location| location.describe());
        (events, described)
    };
    let installed: Vec<_> = events.iter().map(|event| app_id(&event.client)).collect();
    let response = json!({"location": described, "installedApps": installed});
    app.announce(events);
    Ok(Json(response))
}

/// Creates the location if it is new. Returns the events of its installations.
fn add_location(
    app: &App,
    world: &mut World,
    id: &str,
    company: &Arc<str>,
    name: Option<&str>,
) -> Vec<Event> {
    if world.directory.get(id).is_some() {
        return Vec::new();
    }
    let location = world.directory.open(id, company);
    if let Some(name) = name {
        name.clone_into(&mut location.name);
    }
    let location = &*location;
    let consents = world
        .installations
        .add_location(location, app.clock.now_ms());
    consents
        .into_iter()
        .map(|consent| {
            Event::new(Kind::Install, consent.client, location.subject()).of_user(consent.grant)
        })
        .collect()
}

/// A location or a company, for one app.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InstallationTarget {
    location_id: Option<String>,
    company_id: Option<String>,
    /// The default app if absent.
    app_id: Option<String>,
}

impl InstallationTarget {
    fn client(&self, app: &App) -> Result<Arc<str>, ApiError> {
        let client = match &self.app_id {
            None => Some(app.apps.default_client()),
            Some(id) => app.apps.client_of(id),
        };
        let unknown = || ApiError::invalid(["appId must be that of a known app"]);
        client.cloned().ok_or_else(unknown)
    }
}

/// `POST /_sandbox/install`: an agency user adds the app to one more existing location, under the latest
/// consent of the agency.
pub(crate) async fn install(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let target: InstallationTarget = parse(&body)?;
    let app_id = app_id(&target.client(&app)?).to_owned();
    let id = target.location_id.as_deref().unwrap_or_default();
    let event = {
        let mut world = app.world();
        let World {
            directory,
            installations,
            ..
        } = &mut *world;
        let location = directory
            .get(id)
            .ok_or_else(|| ApiError::not_found("Location not found"))?;
        let consent = installations
            .agency(&app_id, &location.company)
            .cloned()
            .ok_or_else(|| ApiError::bad_request("The agency has not consented"))?;
        installations.install(&consent.client, location, app.clock.now_ms());
        Event::new(Kind::Install, consent.client, location.subject()).of_user(consent.grant)
    };
    app.announce(vec![event]);
    Ok(Json(json!({"id": id, "isInstalled": true})))
}

/// `POST /_sandbox/uninstall`: removes the app as GHL's page does, and sends the webhook.
pub(crate) async fn uninstall(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let target: InstallationTarget = parse(&body)?;
    let client = target.client(&app)?;
    let subject = match (&target.location_id, &target.company_id) {
        (Some(id), _) => app
            .world()
            .directory
            .get(id)
            .map(|location| location.subject())
            .ok_or_else(|| ApiError::not_found("Location not found"))?,
        (None, Some(company)) => Subject::Company {
            company: company.as_str().into(),
        },
        (None, None) => return Err(ApiError::invalid(["locationId or companyId is needed"])),
    };
    let id = subject.id().clone();
    let ended = app.uninstall(&client, subject);
    Ok(Json(
        json!({"id": *id, "isInstalled": false, "revoked": ended}),
    ))
}

fn check_id(name: &str, id: &str) -> Result<(), ApiError> {
    if is_id(id) {
        Ok(())
    } else {
        Err(ApiError::invalid([format!("{name} must be an id")]))
    }
}
