//! Refresh requests by gateways.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use store::{Generation, InstallationId, Status, Timestamp, refresh_request_mac};
use store_writer::writer::Wanted;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::QueryString;
use crate::refresh::outcome::{FailureKind, Outcome};

/// How often a refresh that another attempt holds is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn routes() -> Router<Broker> {
    Router::new().route("/v1/installations/{id}/refresh", post(refresh))
}

#[derive(Deserialize)]
struct RefreshQuery {
    /// The generation of the token that the gateway cannot use.
    generation: String,
}

async fn refresh(
    State(broker): State<Broker>,
    Path(id): Path<String>,
    QueryString(query): QueryString<RefreshQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let id: InstallationId = id.parse().map_err(|_| Error::not_found())?;
    let past: Generation = query
        .generation
        .parse()
        .map_err(|_| Error::new(ErrorKind::RequestInvalid, "`generation` is a number"))?;
    let pass = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let ring = &broker.0.writer.rings().access;
    if !refresh_request_mac::verify(ring, pass.unwrap_or_default(), &id, past) {
        return Err(
            Error::new(ErrorKind::RefreshNotAllowed, "This is for gateways").with_hint(
                "only a gateway with the same EVERGREEN_ACCESS_KEYS may ask for a refresh",
            ),
        );
    }
    Ok(now(&broker, &id, Wanted::Past(past)).await?.into_response())
}

/// The result of a refresh.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refreshed {
    /// The generation of the new token. `null` if a newer token was there already.
    generation: Option<String>,
}

/// Refreshes at once. If another attempt is in progress, waits for it for at most the lifetime of a lease. A mint waits as
/// long until GHL's limit of the agency allows it.
pub(crate) async fn now(
    broker: &Broker,
    id: &InstallationId,
    wanted: Wanted,
) -> Result<Json<Refreshed>, Error> {
    let generation = generation(broker, id, wanted).await?;
    let generation = generation.map(|generation| generation.to_string());
    Ok(Json(Refreshed { generation }))
}

/// As [`now`]. The generation of the new token; `None` if the one that was to be replaced is replaced already.
pub(crate) async fn generation(
    broker: &Broker,
    id: &InstallationId,
    wanted: Wanted,
) -> Result<Option<Generation>, Error> {
    let deadline = Instant::now() + broker.0.config.timing.lease;
    loop {
        // Run in a task of its own, so that a client that disconnects does not cancel the refresh.
        let attempt = broker.0.worker.clone().admitted(id.clone(), wanted).await;
        let outcome = broker.0.shutdown.spawn(attempt).await;
        let outcome =
            outcome.map_err(|_| Error::new(ErrorKind::BrokerStopping, "The broker is stopping"))?;
        match outcome {
            Outcome::Busy(_) | Outcome::Adopted if Instant::now() < deadline => {
                sleep(RETRY_INTERVAL).await;
            }
            Outcome::RateLimited(wait) if Instant::now() + wait < deadline => sleep(wait).await,
            other => return result(other, broker.0.reader.now()),
        }
    }
}

fn result(outcome: Outcome, now: Timestamp) -> Result<Option<Generation>, Error> {
    match outcome {
        Outcome::Refreshed { generation } => Ok(Some(generation)),
        Outcome::Superseded => Ok(None),
        Outcome::NotDue(due) => Err(Error::new(
            ErrorKind::RefreshBackingOff,
            "A failed attempt is backing off",
        )
        .retry_after(due.since(now))),
        Outcome::NotRefreshable(Status::Invalid) => Err(Error::new(
            ErrorKind::RefreshNotPossible,
            "The installation is invalid: GHL has refused its refresh token, or that of its agency, several times",
        )
        .with_hint(
            "let the customer connect again at /oauth/install, or try the token once more with \
             `evergreen installations refresh --force`",
        )),
        Outcome::NotRefreshable(status) => Err(Error::new(
            ErrorKind::RefreshNotPossible,
            format!("The installation is {status}: there is nothing to refresh with"),
        )),
        Outcome::UnknownApp => Err(Error::new(
            ErrorKind::RefreshUnavailable,
            "The settings of this broker do not have the app of the installation",
        )
        .with_hint(
            "give every broker behind EVERGREEN_BROKER_URL all apps, with [apps.NAME] in the settings file",
        )),
        Outcome::UnknownInstallation => Err(Error::new(
            ErrorKind::RefreshInstallationUnknown,
            "Installation not found",
        )),
        Outcome::Failed(FailureKind::ScopeMissing) => Err(Error::new(
            ErrorKind::RefreshNotPossible,
            "the agency has not granted the scope oauth.write, which tokens of its locations need",
        )
        .with_hint(
            "add oauth.write and oauth.readonly to GHL_SCOPES and to the app at GHL, and let the agency connect again at \
             /oauth/install",
        )),
        Outcome::Failed(FailureKind::NotInstalled) => Err(Error::new(
            ErrorKind::RefreshNotPossible,
            "GHL gives the agency no token for this location: the app is not installed there",
        )),
        Outcome::Failed(kind) => {
            let message = format!("GHL gave no token: {}", kind.as_str());
            Err(match kind.remedy() {
                Some(remedy) => Error::new(ErrorKind::RefreshRejected, message).with_hint(remedy),
                None => Error::new(ErrorKind::RefreshFailed, message)
                    .with_hint("it is tried again by itself; docs/operations.md explains each kind"),
            })
        }
        Outcome::RateLimited(wait) => Err(Error::new(
            ErrorKind::RefreshUnavailable,
            "GHL's limit of the agency is used up",
        )
        .retry_after(wait)),
        Outcome::Busy(_) | Outcome::Adopted => Err(Error::new(
            ErrorKind::RefreshInProgress,
            "Another attempt is still in progress",
        )),
        Outcome::Journaled => Err(Error::new(
            ErrorKind::RefreshNotStored,
            "The token is granted but not stored yet",
        )),
        Outcome::Contained => Err(Error::new(
            ErrorKind::RefreshPaused,
            "GHL's token endpoint fails: no new refresh token is spent until it recovers",
        )),
        Outcome::Unavailable(_, reason) => Err(Error::new(ErrorKind::RefreshUnavailable, reason)),
    }
}
