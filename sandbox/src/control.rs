//! `/_sandbox`: the control API for tests and developers, which GHL does not have.

pub(crate) mod agencies;
pub(crate) mod webhooks;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::faults::{ActiveRule, Faults};
use crate::fields::Fields;
use crate::ledger::{Snapshot, Totals};
use crate::settings::Live;
use crate::subject::is_id;

/// `GET /_sandbox/ledger`, with the tokens of every grant if `?detail=1`.
pub(crate) async fn ledger(State(app): State<Arc<App>>, query: Fields) -> Response {
    let detail = query.get("detail") == Some("1");
    let (totals, snapshots) = {
        let world = app.world();
        let totals = Totals::new(&world);
        let snapshots: Option<Vec<_>> =
            detail.then(|| world.grants.all().map(Snapshot::of).collect());
        (totals, snapshots)
    };
    let mut body = json!(totals);
    if let Some(snapshots) = snapshots {
        body["installations"] = written(app, snapshots).await;
    }
    Json(body).into_response()
}

/// `GET /_sandbox/ledger/{id}`: the grants of one location or company.
pub(crate) async fn ledger_of(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (snapshots, company, location) = {
        let world = app.world();
        let snapshots: Vec<_> = world.grants.of(&id).map(Snapshot::of).collect();
        let company = world.companies.company(&id).cloned();
        (snapshots, company, world.companies.location(&id))
    };
    if snapshots.is_empty() && company.is_none() && location.is_none() {
        return Err(unknown());
    }
    let counts = match company {
        Some(company) => json!(company),
        None => json!(location.unwrap_or_default()),
    };
    let installations = written(app, snapshots).await;
    let mut body = json!({"id": id, "installations": installations});
    if let (Value::Object(body), Value::Object(counts)) = (&mut body, counts) {
        body.extend(counts);
    }
    Ok(Json(body))
}

/// Serializes grants on a blocking thread, because hashing hundreds of thousands of tokens takes a while.
async fn written(app: Arc<App>, snapshots: Vec<Snapshot>) -> Value {
    let entries = tokio::task::spawn_blocking(move || {
        let entries: Vec<_> = snapshots
            .iter()
            .map(|snapshot| snapshot.entry(&app.signer))
            .collect();
        json!(entries)
    });
    entries.await.unwrap_or_default()
}

pub(crate) async fn faults(State(app): State<Arc<App>>) -> Json<Vec<ActiveRule>> {
    Json(app.world().faults.shown())
}

/// Replaces all rules.
pub(crate) async fn put_faults(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Vec<ActiveRule>>, ApiError> {
    let faults = Faults::parse(&body).map_err(ApiError::invalid)?;
    let shown = faults.shown();
    app.world().faults = faults;
    Ok(Json(shown))
}

pub(crate) async fn delete_faults(State(app): State<Arc<App>>) -> StatusCode {
    app.world().faults = Faults::default();
    StatusCode::NO_CONTENT
}

pub(crate) async fn settings(State(app): State<Arc<App>>) -> Json<Live> {
    Json(app.world().settings)
}

pub(crate) async fn put_settings(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Live>, ApiError> {
    let change = parse(&body)?;
    let mut world = app.world();
    world.settings.change(change);
    Ok(Json(world.settings))
}

/// A location or a company.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    location_id: Option<String>,
    company_id: Option<String>,
}

impl Target {
    fn read(body: &[u8]) -> Result<String, ApiError> {
        let target: Self = parse(body)?;
        target
            .location_id
            .or(target.company_id)
            .filter(|id| is_id(id))
            .ok_or_else(|| ApiError::invalid(["locationId or companyId must be an id"]))
    }
}

pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let id = Target::read(&body)?;
    let serial = app.ids.serial();
    let ended: usize = {
        let mut world = app.world();
        let revoke = |of_app| world.grants.revoke(of_app, &id, serial);
        let apps: BTreeSet<&str> = app.apps.ids().collect();
        apps.into_iter().map(revoke).sum()
    };
    if ended == 0 {
        return Err(unknown());
    }
    Ok(Json(json!({"id": id, "revoked": ended})))
}

pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let id = Target::read(&body)?;
    app.world().grants.pause(&id);
    Ok(Json(json!({"id": id, "active": false})))
}

pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let id = Target::read(&body)?;
    app.world().grants.resume(&id);
    Ok(Json(json!({"id": id, "active": true})))
}

pub(crate) async fn expire(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let id = Target::read(&body)?;
    app.world().grants.expire(&id, app.ids.serial());
    Ok(Json(json!({"id": id})))
}

pub(crate) async fn webhook_key(State(app): State<Arc<App>>) -> Response {
    let pem = app.webhooks.public_key_pem();
    ([(CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|mistake| ApiError::invalid([mistake.to_string()]))
}

fn unknown() -> ApiError {
    ApiError::not_found("Nothing is installed there")
}
