//! `GET /oauth/installedLocations`: the locations of an agency, with and without the app.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Caller;
use super::agency::{not_in_version, not_this_company, restore_installation};
use crate::app::{App, World};
use crate::apps::version_id;
use crate::clock::iso;
use crate::directory::Location;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::oauth::Spelling;

const DEFAULT_PAGE: usize = 20;

/// GHL documents it for version 3.
const MAX_PAGE: usize = 100;

/// `GET /oauth/installedLocations`, which version 3 does not have.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    if Spelling::of(&headers) == Spelling::Camel {
        return Err(not_in_version(&uri.to_string(), &headers));
    }
    let filter = Filter::read(&app, &caller, &query)?;
    if !filter.is_own_app {
        return Err(ApiError::bad_request("App not found"));
    }
    let skip = query.number("skip", 0)?;
    let limit = query.number("limit", DEFAULT_PAGE)?.min(MAX_PAGE);
    let mut world = app.world();
    restore_installation(&app, &mut world, &caller);
    let Page { entries, count } = filter.page(&world, skip, limit);
    Ok(Json(json!({
        "locations": entries,
        "count": count,
        "installToFutureLocations": filter.installs_to_future_locations(&world),
    })))
}

/// `GET /oauth/installed-locations`, which exists only in version 3.
pub(super) async fn list_v3(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    if Spelling::of(&headers) == Spelling::Snake {
        return Err(not_in_version(&uri.to_string(), &headers));
    }
    let filter = Filter::read(&app, &caller, &query)?;
    if !filter.is_own_app {
        let message = format!("The requested App '{}' was not found.", filter.app);
        return Err(ApiError::v3(
            StatusCode::NOT_FOUND,
            "RESOURCE_NOT_FOUND",
            &message,
        ));
    }
    let invalid = |name: &str| {
        let message = format!("The value of {name} is invalid.");
        ApiError::v3(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &message)
    };
    let size = query
        .number("pageSize", DEFAULT_PAGE)
        .ok()
        .filter(|size| (1..=MAX_PAGE).contains(size))
        .ok_or_else(|| invalid("pageSize"))?;
    let skip = match query.get("pageToken") {
        None => 0,
        Some(token) => PageToken::read(token).ok_or_else(|| invalid("pageToken"))?,
    };
    let mut world = app.world();
    restore_installation(&app, &mut world, &caller);
    let Page { entries, count } = filter.page(&world, skip, size);
    let next = skip + entries.len();
    let has_next = next < count && !entries.is_empty();
    Ok(Json(json!({
        "items": entries,
        "pagination": {
            "nextPageToken": has_next.then(|| PageToken { skip: next }.write()),
            "hasNextPage": has_next,
        },
        "metadata": {"filterApplied": filter.applied(), "sortApplied": {}},
        "installToFutureLocations": filter.installs_to_future_locations(&world),
    })))
}

/// The contents of a page token, as in the example of GHL's document.
#[derive(Debug, Serialize, Deserialize)]
struct PageToken {
    skip: usize,
}

impl PageToken {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn read(token: &str) -> Option<usize> {
        let json = URL_SAFE_NO_PAD.decode(token).ok()?;
        let token: Self = serde_json::from_slice(&json).ok()?;
        Some(token.skip)
    }
}

/// Which locations a caller asks for.
#[derive(Debug)]
struct Filter<'a> {
    company: &'a str,
    app: &'a str,
    /// Whether the app is the caller's own.
    is_own_app: bool,
    is_installed: Option<bool>,
    /// A part of the name, in lower case.
    name: Option<String>,
    location: Option<&'a str>,
    /// Whether the filter by version, plan or trial excludes all locations.
    is_empty: bool,
}

struct Page {
    entries: Vec<Value>,
    /// The number of locations on all pages.
    count: usize,
}

impl<'a> Filter<'a> {
    fn read(app: &App, caller: &'a Caller, query: &'a Fields) -> Result<Self, ApiError> {
        let company = caller.agency()?;
        if query.required("companyId")? != company {
            return Err(not_this_company());
        }
        let app_id = query.required("appId")?;
        let own_app = caller.claims.identity.app();
        let is_installed = match query.get("isInstalled") {
            None => None,
            Some(_) => Some(query.flag("isInstalled", true)?),
        };
        // The sandbox has one version of an app, and neither plans nor trials.
        let other_version = query
            .get("versionId")
            .is_some_and(|version| version != version_id(own_app));
        let is_empty = other_version || query.flag("onTrial", false)?;
        Ok(Self {
            company,
            app: app_id,
            is_own_app: own_app == app_id && app.apps.client_of(app_id).is_some(),
            is_installed,
            name: query.get("query").map(str::to_lowercase),
            location: query.get("locationId"),
            is_empty,
        })
    }

    /// One page. Without a search, it takes time in proportion to the page.
    fn page(&self, world: &World, skip: usize, limit: usize) -> Page {
        if self.is_empty {
            let (entries, count) = (Vec::new(), 0);
            return Page { entries, count };
        }
        let directory = &world.directory;
        let installed = world.installations.of(self.app, self.company);
        let installed = installed.map(|company| &company.installed);
        let at = |index: usize| directory.at(self.company, index);
        let describe = |location: &Location| {
            let installed_ms = installed.and_then(|installed| installed.get(&location.index));
            self.describe(location, installed_ms.copied())
        };
        let count = directory.count(self.company);
        let is_search = self.name.is_some() || self.location.is_some();
        match self.is_installed {
            None if !is_search => Page {
                entries: (skip..count)
                    .take(limit)
                    .filter_map(at)
                    .map(describe)
                    .collect(),
                count,
            },
            Some(true) if !is_search => {
                let indexes = installed.into_iter().flat_map(|installed| installed.keys());
                Page {
                    entries: indexes
                        .skip(skip)
                        .take(limit)
                        .filter_map(|index| at(*index))
                        .map(describe)
                        .collect(),
                    count: installed.map_or(0, |installed| installed.len()),
                }
            }
            state => {
                let is_installed = |location: &Location| {
                    installed.is_some_and(|installed| installed.contains_key(&location.index))
                };
                let found: Vec<&Location> = directory
                    .of_company(self.company)
                    .filter(|location| state.is_none_or(|state| state == is_installed(location)))
                    .filter(|location| self.matches(location))
                    .collect();
                let page = found.iter().skip(skip).take(limit);
                Page {
                    entries: page.map(|location| describe(location)).collect(),
                    count: found.len(),
                }
            }
        }
    }

    fn matches(&self, location: &Location) -> bool {
        let named = |part: &String| location.name.to_lowercase().contains(part);
        self.name.as_ref().is_none_or(named) && self.location.is_none_or(|id| *location.id == *id)
    }

    fn describe(&self, location: &Location, installed_ms: Option<u64>) -> Value {
        let mut entry = json!({
            "_id": *location.id,
            "name": location.name,
            "address": location.address(),
            "isInstalled": installed_ms.is_some(),
        });
        if let Some(installed_ms) = installed_ms {
            entry["versionId"] = json!(version_id(self.app));
            entry["installedAt"] = json!(iso(installed_ms));
        }
        entry
    }

    fn installs_to_future_locations(&self, world: &World) -> bool {
        let consent = world.installations.agency(self.app, self.company);
        consent.is_some_and(|consent| consent.installs_to_future_locations)
    }

    fn applied(&self) -> Map<String, Value> {
        let mut applied = Map::new();
        applied.insert("companyId".to_owned(), json!(self.company));
        if let Some(state) = self.is_installed {
            applied.insert("isInstalled".to_owned(), json!(state));
        }
        applied
    }
}
