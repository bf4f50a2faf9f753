//! The administration API: installations and caller keys.

mod apps;
pub(crate) mod diagnosis;
mod export;
mod import;
mod keys;
pub(crate) mod list;
pub(crate) mod manage;
mod private_token;
mod verify;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use store::InstallationId;
use store::audit::{Action, Outcome};
use store_writer::WriteError;
use store_writer::writer::{Listed, Wanted};
use tracing::info;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use apps::{all as all_apps, free_name};
pub use keys::{KeyView, NewKey, NewKeyView, RotateKey, summary};
pub(crate) use keys::{end as end_key, make as make_key, replace as replace_key, unknown_key};

use crate::Broker;
use crate::agency::revocation::end_locations;
use crate::api::error::Error;
use crate::api::extract::{PathName, QueryString};
use crate::api::refresh_api::{self, Refreshed};
use crate::api::status::{AnyView, Name, View};
use crate::audit::Requester;

pub(crate) fn of_installations() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(list::list, import::import))
        .routes(routes!(export::export))
        .routes(routes!(verify::verify))
        .routes(routes!(private_token::add))
        .routes(routes!(show, manage::change, manage::delete))
        .routes(routes!(diagnosis::show))
        .routes(routes!(refresh))
        .routes(routes!(revoke))
}

pub(crate) fn of_apps() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(apps::list))
        .routes(routes!(apps::free))
}

pub(crate) fn of_keys() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
}

/// Show an installation
///
/// Its status and its owner, without its tokens.
#[utoipa::path(get, path = "/v1/installations/{name}", operation_id = "getInstallation", params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 200, description = "The installation", body = AnyView),
))]
async fn show(
    State(broker): State<Broker>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<AnyView>, Error> {
    let writer = &broker.0.writer;
    let id = query.name(&name).resolve(writer).await?;
    let shown = match writer.load(&id).await {
        Ok(found) => Listed::Readable(Box::new(found.ok_or_else(Error::not_found)?)),
        Err(WriteError::Unreadable { id, source }) => Listed::Unreadable { id, source },
        Err(error) => return Err(error.into()),
    };
    let apps = broker.0.worker.apps.current();
    Ok(Json(AnyView::of(&shown, &apps.known())))
}

/// The query of a route that names an installation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AppQuery {
    /// Its app. Needed for a location or company that has several.
    app: Option<String>,
}

impl AppQuery {
    fn name<'a>(&'a self, name: &'a str) -> Name<'a> {
        let app = self.app.as_deref();
        Name { name, app }
    }
}

/// Refresh the token of an installation now
///
/// Usually nobody needs this, since tokens are refreshed before they expire.
#[utoipa::path(post, path = "/v1/installations/{name}/refresh", operation_id = "refreshInstallation", params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), RefreshQuery,
), responses(
    (status = 200, description = "The token is fresh", body = Refreshed),
    (status = 409, description = "There is nothing to refresh with, or GHL refuses it"),
))]
async fn refresh(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(name): PathName,
    QueryString(query): QueryString<RefreshQuery>,
) -> Result<Json<Refreshed>, Error> {
    let name = Name {
        name: &name,
        app: query.app.as_deref(),
    };
    let id = name.resolve(&broker.0.writer).await?;
    refresh_now(&broker, &requester, &id, query.force).await
}

/// Refreshes a token at once, and records it.
///
/// # Errors
/// 409 if there is nothing to refresh with, or GHL refuses it. 503 if it is not possible now.
pub(crate) async fn refresh_now(
    broker: &Broker,
    requester: &Requester,
    id: &InstallationId,
    is_forced: bool,
) -> Result<Json<Refreshed>, Error> {
    let wanted = match is_forced {
        true => Wanted::Forced,
        false => Wanted::Now,
    };
    let refreshed = refresh_api::now(broker, id, wanted).await;
    let now = broker.0.reader.now();
    let mut entry = requester.entry(now, Action::TokenRefreshed).on(id);
    if let Err(error) = &refreshed {
        entry.outcome = Outcome::Failed;
        entry = entry.with(error.code());
    }
    broker.0.audit.record(entry).await;
    refreshed
}

/// The query of a refresh request.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RefreshQuery {
    /// Whether to refresh even an invalid installation, in case GHL has refused its token wrongly.
    #[serde(default)]
    force: bool,
    /// Its app. Needed for a location or company that has several.
    app: Option<String>,
}

/// End an installation
///
/// Its token is no longer served, nor are the tokens of an agency's locations. A new consent activates it again.
#[utoipa::path(post, path = "/v1/installations/{name}/revoke", operation_id = "revokeInstallation", params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 200, description = "The installation, which is revoked", body = View),
))]
async fn revoke(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<View>, Error> {
    let id = query.name(&name).resolve(&broker.0.writer).await?;
    end(&broker, &requester, &id).await?;
    let snapshot = query.name(id.as_str()).find(&broker.0.writer).await?;
    let apps = broker.0.worker.apps.current();
    Ok(Json(View::of(&snapshot, &apps.known())))
}

/// Ends an installation, and the locations of an agency, and records it.
///
/// # Errors
/// 400 if there is none. 503 if the store is unavailable: it may be repeated.
pub(crate) async fn end(
    broker: &Broker,
    requester: &Requester,
    id: &InstallationId,
) -> Result<(), Error> {
    let now = broker.0.reader.now();
    broker
        .0
        .writer
        .revoke(id, "revoked by an operator", now)
        .await?;
    info!(installation = %id, "revoked by an operator");
    let ended = end_locations(
        &broker.0.shutdown,
        &broker.0.writer,
        id,
        "the agency was revoked by an operator",
        now,
    )
    .await;
    let entry = requester.entry(now, Action::InstallationRevoked);
    broker.0.audit.record(entry.on(id)).await;
    Ok(ended?)
}
