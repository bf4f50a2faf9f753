//! GHL's webhooks. The most important ones say that a customer has installed or uninstalled the app.

mod installation;

use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use ghl::webhook::{BadSignature, Event};
use serde_json::{Value, json};
use service::client_address::last_noted;
use service::handler::Peer;
use std::net::IpAddr;
use store::audit::{Action, By, Entry};
use store::{InstallationId, Timestamp};
use store_writer::writer::Wanted;
use tracing::{debug, info};

use crate::Broker;
use crate::agency::revocation::end_locations;
use crate::api::error::{Error, ErrorKind};
use crate::refresh::outcome::{FailureKind, Outcome};

/// The largest webhook, in bytes. GHL's documented ones have a few kilobytes.
const MAX_BYTES: u64 = 256 * 1024;

pub(crate) fn routes() -> Router<Broker> {
    Router::new().route("/webhooks/ghl", post(receive))
}

/// Responds with 2xx only after the event is in the store. Otherwise GHL sends it again. A signed webhook of another
/// shape, type or app gets 2xx, too: it would be the same the next time.
async fn receive(State(broker): State<Broker>, request: Request) -> Result<Json<Value>, Error> {
    let (parts, body) = request.into_parts();
    let from = last_noted(Peer::of(&parts.extensions), &parts.headers);
    let refused = |error: BadSignature| {
        debug!(%error, "a webhook was refused");
        Error::new(ErrorKind::WebhookSignatureInvalid, error.to_string())
    };
    let signature = broker
        .0
        .verifier
        .signature(&parts.headers)
        .map_err(refused)?;
    let body = broker
        .0
        .receive_memory
        .receive(body, MAX_BYTES, from)
        .await?;
    signature.verify(&body.bytes).map_err(refused)?;
    let ignored = |why: &'static str| {
        debug!(why, "a signed webhook was ignored");
        Ok(Json(json!({ "received": true, "ignored": why })))
    };
    let Some(event) = Event::read(&body.bytes) else {
        return ignored("not a JSON object");
    };
    let kind = match event.kind.as_deref() {
        Some("UNINSTALL") => Kind::Uninstall,
        Some("INSTALL") => Kind::Install,
        Some(_) | None => return ignored("another type"),
    };
    if !is_ours(&broker, &event) {
        return ignored("another app, or none named");
    }
    if broker
        .0
        .writer
        .is_webhook_processed(&event.identity)
        .await?
    {
        return Ok(Json(json!({ "received": true, "duplicate": true })));
    }
    match kind {
        Kind::Install => installation::announced(&broker, &event).await?,
        Kind::Uninstall => uninstall(&broker, &event, from).await?,
    }
    // Record it last: GHL repeats a webhook that failed half way, and it must not pass for a replay.
    broker
        .0
        .writer
        .record_webhook_processed(&event.identity)
        .await?;
    Ok(Json(json!({ "received": true })))
}

/// The webhooks that change something.
enum Kind {
    Install,
    Uninstall,
}

/// Whether the event names this app. The app's id is the first part of its client id.
fn is_ours(broker: &Broker, event: &Event) -> bool {
    let client_id = &broker.0.config.consent.client_id;
    event
        .app_id
        .as_ref()
        .is_some_and(|app| client_id == app || client_id.split('-').next() == Some(app))
}

async fn uninstall(broker: &Broker, event: &Event, from: IpAddr) -> Result<(), Error> {
    let name = event.location_id.as_deref().or(event.company_id.as_deref());
    let Some(name) = name else {
        debug!("an UNINSTALL that names neither a location nor a company was ignored");
        return Ok(());
    };
    let Some(id) = broker.0.writer.resolve(name).await? else {
        info!(name, "an UNINSTALL of an unknown installation was ignored");
        return Ok(());
    };
    let event_at = match event.at_ms {
        // A clock that is ahead must not end consents of the future.
        Some(at_ms) => Timestamp::from_millis(at_ms).min(broker.0.reader.now()),
        // It may be of any age, and the customer may have installed the app again. GHL's token endpoint
        // knows.
        None => match grants_tokens(broker, &id).await {
            Some(false) => broker.0.reader.now(),
            Some(true) => {
                info!(installation = %id, "an UNINSTALL without a date was ignored: the token still works");
                return Ok(());
            }
            None => {
                let message = "Whether the installation still has a grant is not known yet";
                return Err(Error::new(ErrorKind::RefreshUnavailable, message));
            }
        },
    };
    if broker
        .0
        .writer
        .revoke(&id, "uninstalled at GHL", event_at)
        .await?
    {
        info!(installation = %id, "uninstalled at GHL");
        let ended = end_locations(
            &broker.0.shutdown,
            &broker.0.writer,
            &id,
            "the agency uninstalled the app",
            event_at,
        )
        .await;
        let now = broker.0.reader.now();
        let entry = Entry::new(now, Action::InstallationUninstalled, By::Webhook);
        broker.0.audit.record(entry.on(&id).from(from)).await;
        // GHL sends it again.
        ended?;
    } else {
        info!(installation = %id, "an UNINSTALL from before the last consent was ignored");
    }
    Ok(())
}

/// Whether GHL still grants tokens to the installation. `None` if that cannot be told now.
async fn grants_tokens(broker: &Broker, id: &InstallationId) -> Option<bool> {
    let (worker, id) = (broker.0.worker.clone(), id.clone());
    let attempt = async move { worker.refresh(&id, Wanted::Now).await };
    match broker.0.shutdown.spawn(attempt).await.ok()? {
        Outcome::Refreshed { .. } | Outcome::Superseded | Outcome::Journaled => Some(true),
        Outcome::NotRefreshable(_) | Outcome::UnknownInstallation => Some(false),
        Outcome::Failed(kind) => match kind {
            FailureKind::Suspect
            | FailureKind::InvalidGrant
            | FailureKind::Lost
            | FailureKind::NotInstalled
            | FailureKind::StillInvalid => Some(false),
            FailureKind::Transient
            | FailureKind::Ambiguous
            | FailureKind::UnreadableAnswer
            | FailureKind::ForeignAnswer
            | FailureKind::Paused
            | FailureKind::ClientRejected
            | FailureKind::ScopeMissing
            | FailureKind::BadRequest => None,
        },
        Outcome::NotDue(_)
        | Outcome::Busy(_)
        | Outcome::RateLimited(_)
        | Outcome::Adopted
        | Outcome::Contained
        | Outcome::Unavailable(_) => None,
    }
}
