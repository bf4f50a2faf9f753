//! The public view of an installation: everything except its tokens.

mod token_status;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use store::{AppName, Caller, ExternalId, InstallationId, Scope, Status, Timestamp};
use store_writer::installation::{Installation, LastError, LocationList};
use store_writer::protocol::STATIC_TOKEN_AGE;
use store_writer::writer::{KnownApps, Listed, Snapshot};
use store_writer::{StoreWriter, WriteError};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::api::auth;
use crate::api::error::{Error, ErrorKind, remedy};
use crate::api::extract::QueryString;
pub(crate) use token_status::TokenStatus;

/// Whether the state of an installation is shown without a key. Only for the sandbox.
#[derive(Debug, Clone, Copy)]
struct AllowsAnonymous(bool);

pub(crate) fn routes(allows_anonymous: bool) -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(status))
        .layer(Extension(AllowsAnonymous(allows_anonymous)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StatusQuery {
    /// Its id, its location, its company or its external id.
    installation_id: Option<String>,
    /// Its location.
    #[serde(rename = "locationId")]
    location_id: Option<String>,
    /// Its app. Needed for a location or company that has several.
    app: Option<String>,
}

/// Show the state of an installation
///
/// Whether its token is fresh, and what the customer has to do. It has no token.
#[utoipa::path(get, path = "/api/oauth/status", operation_id = "getInstallationStatus", params(
    StatusQuery, ("X-Evergreen-App" = Option<String>, Header, description = "The app, as in the query"),
), responses(
    (status = 200, description = "The installation", body = View),
    (status = 401, description = "No key was sent, or none that is known"),
    (status = 500, description = "The stored record cannot be read"),
))]
async fn status(
    State(broker): State<Broker>,
    Extension(AllowsAnonymous(allows_anonymous)): Extension<AllowsAnonymous>,
    headers: HeaderMap,
    QueryString(query): QueryString<StatusQuery>,
) -> Result<Json<View>, Error> {
    let caller = auth::caller(&broker, &headers, Scope::Proxy, allows_anonymous).await?;
    let of_caller = caller.as_ref().and_then(|caller| caller.app.as_ref());
    let header = headers.get(APP_HEADER).and_then(|name| name.to_str().ok());
    let app = query.app.as_deref().or(header);
    let name = query.installation_id.or(query.location_id);
    let name = Name {
        name: &name.unwrap_or_default(),
        app: app.or(of_caller.map(AppName::as_str)),
    };
    // The caller must not learn whether another installation exists, nor under which app.
    let may_see = |its: &Installation| {
        let access = &its.access;
        let may_use =
            |caller: &Caller| caller.may_use(&its.id, access.parent.as_ref(), &access.app);
        caller.as_ref().is_none_or(may_use)
    };
    let writer = &broker.0.writer;
    let id = name.resolve_among(writer, &may_see).await?;
    let snapshot = writer.load(&id).await?;
    let snapshot = snapshot.filter(|known| may_see(&known.installation));
    let snapshot = snapshot.ok_or_else(Error::not_found)?;
    let apps = broker.0.worker.apps.current();
    Ok(Json(View::of(&snapshot, &apps.known())))
}

/// Names the app, if a location or company has several.
const APP_HEADER: &str = "x-evergreen-app";

/// The name of an installation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    /// Its id, its location, its company or its external id.
    pub(crate) name: &'a str,
    /// The app. Needed for a location or company that has several.
    pub(crate) app: Option<&'a str>,
}

impl Name<'_> {
    /// The installation and its record.
    pub(crate) async fn find(self, writer: &StoreWriter) -> Result<Snapshot, Error> {
        let id = self.resolve(writer).await?;
        writer.load(&id).await?.ok_or_else(Error::not_found)
    }

    /// The id of the installation.
    pub(crate) async fn resolve(self, writer: &StoreWriter) -> Result<InstallationId, Error> {
        self.resolve_among(writer, &|_| true).await
    }

    async fn named(
        self,
        writer: &StoreWriter,
        name: &str,
    ) -> Result<Vec<(AppName, InstallationId)>, Error> {
        match name.parse::<store::LocationId>() {
            Ok(_) => Ok(self.of_app(writer.resolve(name).await?)),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn of_app(self, mut found: Vec<(AppName, InstallationId)>) -> Vec<(AppName, InstallationId)> {
        if let Some(app) = self.app {
            found.retain(|(its, _)| its.as_str() == app);
        }
        found
    }

    /// As [`Name::resolve`]. Of several, only those count that `may_see` allows.
    pub(crate) async fn resolve_among(
        self,
        writer: &StoreWriter,
        may_see: &impl Fn(&Installation) -> bool,
    ) -> Result<InstallationId, Error> {
        if let Ok(id) = self.name.parse() {
            return Ok(id);
        }
        let mut found = self.named(writer, self.name).await?;
        // A location or company comes before an external id.
        if found.is_empty()
            && let Ok(external_id) = self.name.parse::<ExternalId>()
        {
            let found_by_id = writer.resolve(&external_id.index_name()).await?;
            found = self.of_app(found_by_id);
        }
        if found.len() > 1 {
            found = stored(writer, found, may_see).await?;
        }
        match found.as_slice() {
            [] => Err(Error::not_found()),
            [(_, id)] => Ok(id.clone()),
            several => {
                let apps: Vec<&str> = several.iter().map(|(app, _)| app.as_str()).collect();
                let message = format!(
                    "{} has an installation of each of these apps: {}",
                    self.name,
                    apps.join(", ")
                );
                Err(Error::new(ErrorKind::AppAmbiguous, message).with_hint(
                    "name the app, with `app=NAME` or `--app NAME`, or the installation",
                ))
            }
        }
    }
}

/// Those that have a record and may be seen. An id can be reserved for a consent that has not come yet.
async fn stored(
    writer: &StoreWriter,
    found: Vec<(AppName, InstallationId)>,
    may_see: &impl Fn(&Installation) -> bool,
) -> Result<Vec<(AppName, InstallationId)>, Error> {
    let mut stored = Vec::with_capacity(found.len());
    for (app, id) in found {
        match writer.load(&id).await {
            Ok(Some(known)) if !may_see(&known.installation) => {}
            Ok(None) => {}
            Ok(Some(_)) | Err(WriteError::Unreadable { .. }) => stored.push((app, id)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stored)
}

/// The JSON for an installation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Installation)]
pub(crate) struct View {
    installation_id: String,
    /// The name of its app.
    app: String,
    /// The client id that its refresh token works with. `null` if an older build stored it, or if it has none.
    client_id: Option<String>,
    location_id: Option<String>,
    company_id: Option<String>,
    /// `Location` or `Company`.
    #[schema(value_type = String)]
    user_type: &'static str,
    /// The installation of the agency, for a location whose tokens come from the agency's grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    /// The locations of an agency.
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<LocationsView>,
    scopes: Vec<String>,
    /// `valid`, `expiring`, `expired`, `asleep`, `suspect`, `unclaimed`, `static`, `paused`, `invalid` or `revoked`.
    #[schema(value_type = String)]
    token_status: &'static str,
    generation: String,
    /// `null` for a static token, and for a location that sleeps: it has no token.
    expires_at: Option<String>,
    /// Seconds; 0 once expired. `null` as above.
    expires_in: Option<u64>,
    installed_at: String,
    /// The customer's id in the caller's system.
    external_id: Option<String>,
    tags: Vec<String>,
    /// Facts from GHL's webhooks, such as `companyName` and `planId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<BTreeMap<String, String>>,
    last_refresh_at: Option<String>,
    next_refresh_at: Option<String>,
    /// When a private integration token is 90 days old.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate_by: Option<String>,
    failures: u32,
    last_error: Option<ErrorView>,
    /// The path where the customer consents again, if that is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconnect: Option<String>,
}

/// The JSON for operators, also for an installation whose record cannot be read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AnyInstallation)]
pub(crate) enum AnyView {
    Readable(Box<View>),
    Unreadable(UnreadableView),
}

/// The JSON for a record that cannot be read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UnreadableInstallation)]
pub(crate) struct UnreadableView {
    installation_id: String,
    /// `unreadable`
    #[schema(value_type = String)]
    token_status: &'static str,
    last_error: UnreadableError,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UnreadableError {
    #[schema(value_type = String)]
    kind: &'static str,
    message: String,
    /// The next step, for people.
    #[schema(value_type = String)]
    to_do: &'static str,
}

impl AnyView {
    /// `known`: the apps of this broker.
    pub(crate) fn of(listed: &Listed, known: &KnownApps) -> Self {
        match listed {
            Listed::Readable(snapshot) => Self::Readable(Box::new(View::of(snapshot, known))),
            Listed::Unreadable { id, source } => {
                let to_do = remedy(source);
                Self::Unreadable(UnreadableView {
                    installation_id: id.to_string(),
                    token_status: TokenStatus::Unreadable.as_str(),
                    last_error: UnreadableError {
                        kind: "unreadable",
                        message: format!("the record cannot be read: {source}. To do: {to_do}"),
                        to_do,
                    },
                })
            }
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Locations)]
struct LocationsView {
    /// How many locations have the app, by the last list of GHL.
    count: u64,
    /// `null` until GHL has given a list.
    listed_at: Option<String>,
    /// Whether later locations get the app, too. `null` if GHL has not said it.
    includes_future: Option<bool>,
    next_list_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorView>,
}

impl LocationsView {
    fn of(list: &LocationList) -> Self {
        Self {
            count: list.count,
            listed_at: list.listed_at.map(|at| at.to_string()),
            includes_future: list.is_for_future_locations,
            next_list_at: list.due.to_string(),
            last_error: list.error.as_ref().map(ErrorView::of),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LastError)]
struct ErrorView {
    kind: String,
    message: String,
    at: String,
}

impl View {
    /// `known`: the apps of this broker.
    pub(crate) fn of(snapshot: &Snapshot, known: &KnownApps) -> Self {
        let Snapshot { installation, now } = snapshot;
        let access = &installation.access;
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let is_static = access.status == Status::Static;
        let expires_at = access.expires_at.filter(|_| !installation.is_asleep(*now));
        let needs_consent = match access.status {
            Status::Invalid | Status::Revoked => true,
            Status::Active | Status::Paused | Status::Static => false,
        };
        Self {
            installation_id: installation.id.to_string(),
            app: access.app.to_string(),
            client_id: installation.client.as_ref().map(ToString::to_string),
            location_id: access.location.as_ref().map(ToString::to_string),
            company_id: access.company.as_ref().map(ToString::to_string),
            user_type: access.user_type.as_str(),
            parent_id: access.parent.as_ref().map(ToString::to_string),
            locations: installation.locations.as_ref().map(LocationsView::of),
            scopes: access
                .scopes
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            token_status: TokenStatus::of(snapshot, known).as_str(),
            generation: access.generation.to_string(),
            expires_at: text(expires_at),
            expires_in: expires_at.map(|at| at.since(*now).as_secs()),
            installed_at: installation.installed_at.to_string(),
            external_id: installation
                .customer
                .external_id
                .as_ref()
                .map(ToString::to_string),
            tags: installation
                .customer
                .tags
                .iter()
                .map(ToString::to_string)
                .collect(),
            details: installation.details.as_ref().map(|it| it.facts.clone()),
            last_refresh_at: text(installation.refreshed_at),
            next_refresh_at: text(installation.due.filter(|_| !is_static)),
            rotate_by: is_static
                .then_some(installation.refreshed_at)
                .flatten()
                .map(|at| (at + STATIC_TOKEN_AGE).to_string()),
            failures: installation.failures,
            last_error: installation.last_error.as_ref().map(ErrorView::of),
            reconnect: needs_consent.then(|| match access.app.is_default() {
                true => "/oauth/install".to_owned(),
                false => format!("/oauth/install?app={}", access.app),
            }),
        }
    }
}

impl ErrorView {
    fn of(error: &LastError) -> Self {
        Self {
            kind: error.kind.clone(),
            message: error.message.clone(),
            at: error.at.to_string(),
        }
    }
}
