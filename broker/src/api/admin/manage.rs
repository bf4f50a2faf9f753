//! Changes what a caller knows about an installation, and removes one.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Deserializer, Serialize};
use store::audit::Action;
use store::{ExternalId, Freshness, InstallationId, Status, Tag, UserType, customer};
use store_writer::WriteError;
use store_writer::installation::Installation;
use store_writer::writer::Wanted;
use tracing::{info, warn};
use utoipa::ToSchema;

use super::AppQuery;
use crate::Broker;
use crate::agency::revocation::end_locations;
use crate::api::error::Error;
use crate::api::extract::{JsonBody, PathName, QueryString};
use crate::api::refresh_api;
use crate::api::status::View;
use crate::audit::Requester;

const REASON: &str = "deleted by an operator";

/// The body of a change. Absent members stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InstallationChange)]
pub(super) struct Change {
    /// All tags that the installation has then.
    #[schema(max_items = 16)]
    tags: Option<Vec<String>>,
    /// `null` removes the external id.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    external_id: Option<Option<String>>,
}

/// Tells `null` from an absent field.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Change what you know about an installation
///
/// Changes its tags, and its id in your system.
#[utoipa::path(patch, path = "/v1/installations/{name}", operation_id = "changeInstallation", request_body = Change, params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 200, description = "The installation", body = View),
))]
pub(super) async fn change(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<View>, Error> {
    let writer = &broker.0.writer;
    let tags = change.tags.map(customer::parse_tags).transpose();
    let tags = tags.map_err(Error::invalid)?;
    let parse = |text: String| text.parse::<ExternalId>();
    let external_id = change.external_id.map(|id| id.map(parse).transpose());
    let external_id = external_id.transpose();
    let external_id = external_id.map_err(|error| Error::invalid(error.to_string()))?;
    if tags.is_none() && external_id.is_none() {
        return Err(Error::invalid("the body names `tags` or `external_id`"));
    }
    let id = query.name(&name).resolve(writer).await?;
    change_customer(&broker, &requester, &id, (external_id, tags)).await?;
    let snapshot = query.name(id.as_str()).find(writer).await?;
    let apps = broker.0.worker.apps.current();
    Ok(Json(View::of(&snapshot, &apps.known())))
}

/// Changes the external id and the tags of an installation, those that are given, and records it.
///
/// # Errors
/// 400 if there is none. 503 if the store is unavailable.
pub(crate) async fn change_customer(
    broker: &Broker,
    requester: &Requester,
    id: &InstallationId,
    (external_id, tags): (Option<Option<ExternalId>>, Option<BTreeSet<Tag>>),
) -> Result<(), Error> {
    broker
        .0
        .writer
        .change_customer(id, external_id, tags)
        .await?;
    let now = broker.0.reader.now();
    let entry = requester.entry(now, Action::InstallationChanged);
    broker.0.audit.record(entry.on(id)).await;
    Ok(())
}

/// The result of a deletion.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeletedInstallation)]
pub(crate) struct Deleted {
    #[schema(value_type = String)]
    installation_id: InstallationId,
    /// Whether the app is uninstalled at GHL.
    pub(crate) uninstalled_at_ghl: bool,
    /// Why it is not.
    pub(crate) reason: Option<String>,
    /// How many locations of the agency were deleted with it.
    pub(crate) locations: u64,
}

/// Delete an installation
///
/// Uninstalls the app at GHL if GHL takes the token, and then forgets the installation.
#[utoipa::path(delete, path = "/v1/installations/{name}", operation_id = "deleteInstallation", params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 200, description = "The result", body = Deleted),
))]
pub(super) async fn delete(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<Deleted>, Error> {
    let found = query.name(&name).find(&broker.0.writer).await?;
    let deleted = remove(&broker, &requester, &found.installation).await?;
    Ok(Json(deleted))
}

/// Uninstalls the app at GHL if GHL takes the token, forgets the installation and the locations of an agency, and records
/// it.
///
/// # Errors
/// 503 if the store is unavailable: it may be repeated.
pub(crate) async fn remove(
    broker: &Broker,
    requester: &Requester,
    known: &Installation,
) -> Result<Deleted, Error> {
    let writer = &broker.0.writer;
    let id = known.id.clone();
    let refused = uninstall_at_ghl(broker, known).await.err();
    if let Some(reason) = &refused {
        warn!(installation = %id, reason, "the app is not uninstalled at GHL");
    }
    let now = broker.0.reader.now();
    // First the end, so that its event is stored.
    writer.revoke(&id, REASON, now).await?;
    end_locations(&broker.0.shutdown, writer, &id, REASON, now).await?;
    let mut forgotten = 0_u64;
    for child in writer.children(&id).await? {
        forgotten += u64::from(forget_child(broker, &child, &id).await?);
    }
    writer.forget(&id).await?;
    info!(installation = %id, locations = forgotten, "deleted by an operator");
    let entry = requester.entry(now, Action::InstallationDeleted);
    broker.0.audit.record(entry.on(&id)).await;
    Ok(Deleted {
        installation_id: id,
        uninstalled_at_ghl: refused.is_none(),
        reason: refused,
        locations: forgotten,
    })
}

/// Whether the location was still one of the agency's.
async fn forget_child(
    broker: &Broker,
    child: &InstallationId,
    parent: &InstallationId,
) -> Result<bool, WriteError> {
    let writer = &broker.0.writer;
    let is_child = match writer.load(child).await {
        Ok(Some(known)) => known.installation.access.parent.as_ref() == Some(parent),
        Ok(None) | Err(WriteError::Unreadable { .. }) => false,
        Err(error) => return Err(error),
    };
    Ok(is_child && writer.forget(child).await?)
}

/// Uninstalls the app. The error says in words why that is not possible.
async fn uninstall_at_ghl(broker: &Broker, known: &Installation) -> Result<(), String> {
    let access = &known.access;
    match access.status {
        Status::Active | Status::Paused => {}
        Status::Static => return Err("a private token belongs to no app".to_owned()),
        Status::Invalid | Status::Revoked => return Err("GHL takes its token no more".to_owned()),
    }
    let app = broker
        .0
        .worker
        .apps
        .of_token(&access.app, known.client.as_ref());
    let app = app.ok_or_else(|| "this broker does not know its app".to_owned())?;
    let token = fresh_token(broker, &known.id).await?;
    let owner = match (access.user_type, &access.location, &access.company) {
        (UserType::Location, Some(location), _) => ("locationId", location.as_str()),
        (UserType::Company, _, Some(company)) => ("companyId", company.as_str()),
        (UserType::Location, None, _) | (UserType::Company, _, None) => {
            return Err("it names neither location nor company".to_owned());
        }
    };
    let agency_api = broker.0.worker.agency_api();
    let uninstalled = agency_api.uninstall(&token, app.client.app_id(), owner, REASON);
    uninstalled.await.map_err(|error| error.to_string())
}

/// The access token, refreshed if it has expired.
async fn fresh_token(
    broker: &Broker,
    id: &InstallationId,
) -> Result<secrecy::SecretString, String> {
    let reader = &broker.0.reader;
    for is_refreshed in [false, true] {
        let found = reader.access(id).await.map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| "it is gone".to_owned())?;
        if found.freshness(reader.now()) != Freshness::Expired {
            return Ok(found.token);
        }
        if !is_refreshed {
            let refreshed = refresh_api::now(broker, id, Wanted::Now).await;
            refreshed.map(drop).map_err(|error| error.message)?;
        }
    }
    Err("its token has expired".to_owned())
}
