//! GHL's webhooks. The most important ones say that a customer has installed or uninstalled the app.

mod forward;
mod installation;

use axum::Json;
use axum::extract::{Request, State};
use ghl::webhook::{self, BadSignature, Event, Signature};
use serde::Serialize;
use service::client_address::last_noted;
use service::handler::Peer;
use service::trace::TraceContext;
use std::net::IpAddr;
use std::sync::Arc;
use store::audit::{Action, By, Entry};
use store::{InstallationId, LocationId, Timestamp};
use store_writer::WriteError;
use store_writer::details::Details;
use store_writer::writer::Wanted;
use tracing::{debug, info};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::agency::revocation::end_locations;
use crate::api::error::{Error, ErrorKind};
use crate::apps::App;
use crate::apps::identity::NotUsable;
use crate::metrics;
use crate::refresh::outcome::{FailureKind, Outcome};

/// The largest webhook, in bytes. GHL's documented ones have a few kilobytes.
const MAX_BYTES: u64 = 256 * 1024;

pub(crate) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default().routes(routes!(receive))
}

/// A webhook was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = ReceivedWebhook)]
struct Received {
    /// `true`
    received: bool,
    /// Why it changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    ignored: Option<&'static str>,
    /// Whether it came before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
}

const RECEIVED: Received = Received {
    received: true,
    ignored: None,
    duplicate: false,
};

/// Take a webhook of GHL
///
/// GHL's signature is needed, and no key. The response is 2xx only after the event is stored. Otherwise GHL sends it
/// again. A signed webhook of another shape, type or app gets 2xx, too, because a retry would be the same.
#[utoipa::path(post, path = "/webhooks/ghl", operation_id = "receiveWebhook", request_body(
    content = Object, description = "The webhook, of up to 256 KiB",
), params(
    ("X-GHL-Signature" = Option<String>, Header, description = "GHL's signature of the body"),
    ("X-WH-Signature" = Option<String>, Header, description = "The same, with GHL's older key"),
), responses(
    (status = 200, description = "The webhook was taken", body = Received),
    (status = 401, description = "GHL has not signed it"),
    (status = 500, description = "A stored record cannot be read"),
))]
async fn receive(State(broker): State<Broker>, request: Request) -> Result<Json<Received>, Error> {
    let received = take(broker, request).await;
    metrics::webhook_received(match &received {
        Ok(taken) if taken.duplicate => Ok("duplicate"),
        Ok(taken) if taken.ignored.is_some() => Ok("ignored"),
        Ok(_) => Ok("processed"),
        Err(error) => Err(error.kind),
    });
    received.map(Json)
}

async fn take(broker: Broker, request: Request) -> Result<Received, Error> {
    let (parts, body) = request.into_parts();
    let from = last_noted(Peer::of(&parts.extensions), &parts.headers);
    let refused = |error: BadSignature| {
        debug!(%error, "a webhook was refused");
        Error::new(ErrorKind::WebhookSignatureInvalid, error.to_string())
    };
    let apps = broker.0.worker.apps.current();
    // Each app may have keys of its own.
    let verifiers = apps.apps.iter().map(|app| (app, &app.verifier));
    let signatures = webhook::signatures(verifiers, &parts.headers).map_err(refused)?;
    let body = broker
        .0
        .receive_memory
        .receive(body, MAX_BYTES, from)
        .await?;
    let accepting = accepting(signatures, &body.bytes).map_err(refused)?;
    let ignored = |why: &'static str| {
        debug!(why, "a signed webhook was ignored");
        Ok(Received {
            ignored: Some(why),
            ..RECEIVED
        })
    };
    let Some(event) = Event::read(&body.bytes) else {
        return ignored("not a JSON object");
    };
    forward::forward(&broker, &event, &accepting, &parts.headers, &body.bytes).await?;
    let kind = match event.kind.as_deref() {
        Some("UNINSTALL") => Kind::Uninstall,
        Some("INSTALL") => Kind::Install,
        Some("UPDATE" | "PLAN_CHANGE") => Kind::Change,
        Some(_) | None => return ignored("another type"),
    };
    let of_app = usable(&broker, named_by(&event, accepting)).await?;
    let Some(owner) = owner(&broker, &of_app, &event).await? else {
        return ignored("another app, or none named");
    };
    if broker
        .0
        .writer
        .is_webhook_processed(&event.identity)
        .await?
    {
        return Ok(Received {
            duplicate: true,
            ..RECEIVED
        });
    }
    match kind {
        Kind::Install => {
            installation::announced(&broker, owner, &event).await?;
            note_details(&broker, owner, &event).await?;
        }
        Kind::Change => note_details(&broker, owner, &event).await?,
        Kind::Uninstall => {
            for app in of_app {
                uninstall(&broker, app, &event, from).await?;
            }
        }
    }
    // Record it last: GHL repeats a webhook that failed half way, and it must not pass for a replay.
    broker
        .0
        .writer
        .record_webhook_processed(&event.identity)
        .await?;
    Ok(RECEIVED)
}

/// The webhooks that change something.
enum Kind {
    Install,
    /// Of the version of the app, or of the customer's plan.
    Change,
    Uninstall,
}

/// Keeps what the event tells about the installation, such as the plan.
async fn note_details(broker: &Broker, app: &App, event: &Event) -> Result<(), Error> {
    let name = event.location_id.as_deref().or(event.company_id.as_deref());
    let Some(name) = name.filter(|name| name.parse::<LocationId>().is_ok()) else {
        return Ok(());
    };
    let now = broker.0.reader.now();
    let told = Details {
        at: event
            .at_ms
            .map_or(now, |at| Timestamp::from_millis(at).min(now)),
        facts: event.details.clone(),
    };
    Ok(broker.0.writer.note_details(&app.name, name, &told).await?)
}

/// The apps whose keys signed the body.
fn accepting<'a>(
    signatures: Vec<(&'a Arc<App>, Signature<'a>)>,
    body: &[u8],
) -> Result<Vec<&'a Arc<App>>, BadSignature> {
    let accepted = signatures
        .into_iter()
        .filter(|(_, its)| its.verify(body).is_ok());
    let accepting: Vec<_> = accepted.map(|(app, _)| app).collect();
    match accepting.is_empty() {
        true => Err(BadSignature::Wrong),
        false => Ok(accepting),
    }
}

/// Those of the apps that the event names. Several have one id at GHL while an earlier client id is kept.
fn named_by<'a>(event: &Event, mut apps: Vec<&'a Arc<App>>) -> Vec<&'a Arc<App>> {
    let is_named = |app: &App| {
        let named = event.app_id.as_deref();
        named.is_some_and(|id| app.is_at_ghl(id))
    };
    apps.retain(|app| is_named(app));
    apps
}

/// Those of the apps whose names are their own. GHL signs for all apps with one key, so an event of an app that has the name
/// of another one must not end installations of that one.
async fn usable<'a>(broker: &Broker, apps: Vec<&'a Arc<App>>) -> Result<Vec<&'a Arc<App>>, Error> {
    let mut usable = Vec::with_capacity(apps.len());
    for app in apps {
        match app.ensure_usable(&broker.0.writer).await {
            Ok(()) => usable.push(app),
            Err(NotUsable::NameTaken { .. }) => {}
            Err(NotUsable::Store(error)) => return Err(error.into()),
        }
    }
    Ok(usable)
}

/// The one of these apps that the event's installation belongs to: the one that has it already, or its agency. For a new
/// one it is the app that has others already, since an earlier client id is kept under a name without any.
async fn owner<'a>(
    broker: &Broker,
    apps: &[&'a Arc<App>],
    event: &Event,
) -> Result<Option<&'a Arc<App>>, Error> {
    let names = [event.location_id.as_deref(), event.company_id.as_deref()];
    if apps.len() > 1 {
        for name in names.into_iter().flatten() {
            for app in apps {
                if let Some(id) = broker.0.writer.resolve_in(&app.name, name).await?
                    && broker.0.writer.load(&id).await?.is_some()
                {
                    return Ok(Some(app));
                }
            }
        }
    }
    let in_use = match apps.len() {
        0 | 1 => Vec::new(),
        _ => broker.0.writer.apps().await?,
    };
    let in_use = apps.iter().find(|app| in_use.contains(&app.name));
    let default = || apps.iter().find(|app| app.name.is_default());
    Ok(in_use.or_else(default).or(apps.first()).copied())
}

async fn uninstall(broker: &Broker, app: &App, event: &Event, from: IpAddr) -> Result<(), Error> {
    let name = event.location_id.as_deref().or(event.company_id.as_deref());
    let Some(name) = name else {
        debug!("an UNINSTALL that names neither a location nor a company was ignored");
        return Ok(());
    };
    let Some(id) = broker.0.writer.resolve_in(&app.name, name).await? else {
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
    let revoked = broker
        .0
        .writer
        .revoke(&id, "uninstalled at GHL", event_at)
        .await;
    if let Err(WriteError::Unknown(_)) = revoked {
        info!(installation = %id, "an UNINSTALL of a deleted installation was ignored");
        return Ok(());
    }
    if revoked? {
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
    let asked_by = TraceContext::current();
    let attempt = async move { worker.refresh_for(&asked_by, &id, Wanted::Now).await };
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
        | Outcome::UnknownApp
        | Outcome::Unavailable(..) => None,
    }
}
