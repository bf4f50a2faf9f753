//! What GHL tells the app: above all that a customer uninstalled it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use ghl::webhook::Event;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use store::{InstallationId, Timestamp};
use store_writer::writer::Wanted;
use tracing::{info, warn};

use crate::Broker;
use crate::error::Error;
use crate::outcome::Outcome;

/// GHL's own advice: refuse what is more than 5 minutes off, and what was seen before.
const FRESH: Duration = Duration::from_secs(5 * 60);

pub(crate) fn routes() -> Router<Broker> {
    Router::new().route("/webhooks/ghl", post(receive))
}

/// Answers 2xx only once the event is in the store: GHL sends it again otherwise.
async fn receive(
    State(broker): State<Broker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Error> {
    if let Err(error) = broker.0.verifier.check(&headers, &body) {
        warn!(%error, "a webhook was refused");
        return Err(Error::new(StatusCode::UNAUTHORIZED, error.to_string()));
    }
    let event: Event = serde_json::from_slice(&body)
        .map_err(|_| Error::bad_request("The body is not a webhook of GHL"))?;
    let told_at = told_at(&event, broker.0.reader.now())?;
    if !is_ours(&broker, &event) {
        return Ok(Json(json!({ "received": true, "ignored": "another app" })));
    }
    if let Some(id) = &event.webhook_id
        && broker.0.writer.is_webhook_processed(id).await?
    {
        return Ok(Json(json!({ "received": true, "duplicate": true })));
    }
    match event.kind.as_str() {
        "UNINSTALL" => uninstall(&broker, &event, told_at).await?,
        // The callback enrols; this can come before its code is exchanged.
        "INSTALL" => info!(
            location = event.location_id,
            company = event.company_id,
            "GHL tells of an installation"
        ),
        other => info!(kind = other, "a webhook that means nothing here"),
    }
    // Only now: what failed half way is sent again, and must not pass for a replay then.
    if let Some(id) = &event.webhook_id {
        broker.0.writer.record_webhook_processed(id).await?;
    }
    Ok(Json(json!({ "received": true })))
}

/// When GHL says it happened; `None` where it does not say.
fn told_at(event: &Event, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let Some(text) = &event.timestamp else {
        return Ok(None);
    };
    let told = humantime::parse_rfc3339_weak(text)
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
        .ok_or_else(|| Error::bad_request("The webhook's timestamp cannot be read"))?;
    if told.since(now).max(now.since(told)) > FRESH {
        return Err(Error::bad_request("The webhook is more than 5 minutes off"));
    }
    Ok(Some(told))
}

/// The app's id is the first part of its client id.
fn is_ours(broker: &Broker, event: &Event) -> bool {
    let client_id = &broker.0.config.consent.client_id;
    match &event.app_id {
        None => true,
        Some(app) => client_id == app || client_id.split('-').next() == Some(app),
    }
}

async fn uninstall(
    broker: &Broker,
    event: &Event,
    told_at: Option<Timestamp>,
) -> Result<(), Error> {
    let name = event.location_id.as_deref().or(event.company_id.as_deref());
    let Some(name) = name else {
        return Err(Error::bad_request(
            "UNINSTALL names neither a location nor a company",
        ));
    };
    let Some(id) = broker.0.writer.resolve(name).await? else {
        info!(name, "uninstalled at GHL, and not known here");
        return Ok(());
    };
    let told_at = match told_at {
        Some(told_at) => told_at,
        // It may be of any age, and the customer back since: GHL's token endpoint knows.
        None if is_alive(broker, &id).await => {
            info!(installation = %id, "an UNINSTALL without a date, and its token still works: ignored");
            return Ok(());
        }
        None => broker.0.reader.now(),
    };
    if broker
        .0
        .writer
        .revoke(&id, "uninstalled at GHL", told_at)
        .await?
    {
        info!(installation = %id, "uninstalled at GHL");
    } else {
        info!(installation = %id, "an UNINSTALL from before the last consent: ignored");
    }
    Ok(())
}

async fn is_alive(broker: &Broker, id: &InstallationId) -> bool {
    let (worker, id) = (broker.0.worker.clone(), id.clone());
    let attempt = async move { worker.refresh(&id, Wanted::Now).await };
    let outcome = broker.0.shutdown.spawn(attempt).await;
    matches!(outcome, Ok(Outcome::Refreshed { .. }))
}
