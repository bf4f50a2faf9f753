//! GHL's webhooks. The most important one says that a customer has uninstalled the app.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use ghl::webhook::Event;
use http::HeaderMap;
use serde_json::{Value, json};
use store::{InstallationId, Timestamp};
use store_writer::writer::Wanted;
use tracing::{info, warn};

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::refresh::outcome::Outcome;

/// The largest difference between a webhook's timestamp and the store's clock. GHL advises to refuse older
/// webhooks and those that were seen before.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

pub(crate) fn routes() -> Router<Broker> {
    Router::new().route("/webhooks/ghl", post(receive))
}

/// Responds with 2xx only after the event is in the store. Otherwise GHL sends it again.
async fn receive(
    State(broker): State<Broker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Error> {
    if let Err(error) = broker.0.verifier.check(&headers, &body) {
        warn!(%error, "a webhook was refused");
        return Err(Error::new(
            ErrorKind::WebhookSignatureInvalid,
            error.to_string(),
        ));
    }
    let event: Event = serde_json::from_slice(&body).map_err(|_| {
        Error::new(
            ErrorKind::WebhookInvalid,
            "The body is not a webhook of GHL",
        )
    })?;
    let event_at = event_at(&event, broker.0.reader.now())?;
    if !is_ours(&broker, &event) {
        return Ok(Json(json!({ "received": true, "ignored": "another app" })));
    }
    if let Some(id) = &event.webhook_id
        && broker.0.writer.is_webhook_processed(id).await?
    {
        return Ok(Json(json!({ "received": true, "duplicate": true })));
    }
    match event.kind.as_str() {
        "UNINSTALL" => uninstall(&broker, &event, event_at).await?,
        // The OAuth callback registers the installation. This webhook can arrive before it.
        "INSTALL" => info!(
            location = event.location_id,
            company = event.company_id,
            "GHL announces an installation"
        ),
        other => info!(kind = other, "a webhook of another type was ignored"),
    }
    // Record it last: GHL repeats a webhook that failed half way, and it must not pass for a replay.
    if let Some(id) = &event.webhook_id {
        broker.0.writer.record_webhook_processed(id).await?;
    }
    Ok(Json(json!({ "received": true })))
}

/// The time of the event according to GHL. `None` if GHL does not say.
fn event_at(event: &Event, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let Some(text) = &event.timestamp else {
        return Ok(None);
    };
    let event_time = humantime::parse_rfc3339_weak(text)
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::WebhookInvalid,
                "The webhook's timestamp cannot be read",
            )
        })?;
    if event_time.since(now).max(now.since(event_time)) > MAX_AGE {
        return Err(Error::new(
            ErrorKind::WebhookInvalid,
            "The webhook is more than 5 minutes off",
        ));
    }
    Ok(Some(event_time))
}

/// Whether the event is for this app. The app's id is the first part of its client id.
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
    event_at: Option<Timestamp>,
) -> Result<(), Error> {
    let name = event.location_id.as_deref().or(event.company_id.as_deref());
    let Some(name) = name else {
        return Err(Error::new(
            ErrorKind::WebhookInvalid,
            "UNINSTALL names neither a location nor a company",
        ));
    };
    let Some(id) = broker.0.writer.resolve(name).await? else {
        info!(name, "an UNINSTALL of an unknown installation was ignored");
        return Ok(());
    };
    let event_at = match event_at {
        Some(event_at) => event_at,
        // It may be of any age, and the customer may have installed the app again. GHL's token endpoint
        // knows.
        None if is_alive(broker, &id).await => {
            info!(installation = %id, "an UNINSTALL without a date was ignored: the token still works");
            return Ok(());
        }
        None => broker.0.reader.now(),
    };
    if broker
        .0
        .writer
        .revoke(&id, "uninstalled at GHL", event_at)
        .await?
    {
        info!(installation = %id, "uninstalled at GHL");
    } else {
        info!(installation = %id, "an UNINSTALL from before the last consent was ignored");
    }
    Ok(())
}

/// Whether GHL still grants tokens to the installation.
async fn is_alive(broker: &Broker, id: &InstallationId) -> bool {
    let (worker, id) = (broker.0.worker.clone(), id.clone());
    let attempt = async move { worker.refresh(&id, Wanted::Now).await };
    let outcome = broker.0.shutdown.spawn(attempt).await;
    matches!(outcome, Ok(Outcome::Refreshed { .. }))
}
