//! The list of installations, in pages.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::{ExternalId, InstallationId, LocationId, Tag};
use store_writer::writer::Listed;
use utoipa::{IntoParams, ToSchema};

use crate::Broker;
use crate::api::error::Error;
use crate::api::extract::QueryString;
use crate::api::status::{AnyView, Name, TOKEN_STATUSES};

/// The query. A page may have fewer entries than `limit`, and even none: the list ends where `next` is `null`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The `next` of the page before.
    #[serde(alias = "cursor")]
    #[param(value_type = Option<String>)]
    after: Option<InstallationId>,
    /// The most entries. 100 if it is absent, and never more than 1000.
    limit: Option<usize>,
    /// Only the locations of this agency whose tokens come from its grant: its id, or that of its company.
    parent: Option<String>,
    /// Only installations of this company.
    company: Option<String>,
    /// Only installations of this app.
    app: Option<String>,
    /// Only installations with this `tokenStatus`.
    status: Option<String>,
    /// Only installations with this tag.
    tag: Option<String>,
    /// Only the installations of this location, one for each app.
    location: Option<String>,
    /// Only the installations with this external id, one for each app.
    external_id: Option<String>,
}

/// A page of installations.
#[derive(Serialize, ToSchema)]
pub(super) struct Installations {
    installations: Vec<AnyView>,
    /// The `after` of the next page. `null` on the last one.
    next: Option<String>,
}

/// List installations
///
/// A page may have fewer entries than `limit`, or none. The list ends where `next` is `null`.
#[utoipa::path(get, path = "/v1/installations", operation_id = "listInstallations", params(Page), responses(
    (status = 200, description = "A page", body = Installations),
))]
pub(super) async fn list(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Installations>, Error> {
    if let Some(status) = &page.status
        && !TOKEN_STATUSES.contains(&status.as_str())
    {
        let known = TOKEN_STATUSES.join(", ");
        return Err(Error::invalid(format!(
            "`status` is {status}: it can be {known}"
        )));
    }
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let after = page.after.as_ref();
    let writer = &broker.0.writer;
    let parent = match &page.parent {
        Some(name) => {
            let app = page.app.as_deref();
            Some(Name { name, app }.resolve(writer).await?)
        }
        None => None,
    };
    let listed = match (&page.external_id, &page.location, &page.tag, &parent) {
        (Some(id), _, _, _) => {
            let id = id.parse::<ExternalId>();
            let id = id.map_err(|error| Error::invalid(error.to_string()))?;
            writer.list_named(&id.index_name(), after, limit).await?
        }
        (None, Some(location), _, _) => {
            let location = location.parse::<LocationId>();
            let location = location.map_err(|error| Error::invalid(error.to_string()))?;
            writer.list_named(location.as_str(), after, limit).await?
        }
        (None, None, Some(tag), _) => {
            let tag = tag.parse::<Tag>();
            let tag = tag.map_err(|error| Error::invalid(error.to_string()))?;
            writer.list_tagged(&tag, after, limit).await?
        }
        (None, None, None, Some(parent)) => writer.list_children(parent, after, limit).await?,
        (None, None, None, None) => writer.list(after, limit).await?,
    };
    let is_full = listed.len() == limit;
    let next = listed.last().filter(|_| is_full);
    let next = next.map(|last| last.id().to_string());
    let wanted = listed
        .iter()
        .filter(|entry| is_of(entry, parent.as_ref(), &page));
    let known = broker.0.worker.apps.current().known();
    let views = wanted.map(|entry| AnyView::of(entry, &known));
    let installations: Vec<AnyView> = match &page.status {
        Some(status) => views.filter(|view| view.token_status() == status).collect(),
        None => views.collect(),
    };
    Ok(Json(Installations {
        installations,
        next,
    }))
}

/// Whether it belongs to these. A record that cannot be read belongs to nobody.
fn is_of(listed: &Listed, parent: Option<&InstallationId>, page: &Page) -> bool {
    let (company, app) = (page.company.as_deref(), page.app.as_deref());
    let Listed::Readable(known) = listed else {
        let filters = [&page.tag, &page.external_id, &page.location];
        let is_unfiltered = filters.iter().all(|filter| filter.is_none());
        return parent.is_none() && company.is_none() && app.is_none() && is_unfiltered;
    };
    let customer = &known.installation.customer;
    let has_tag = |wanted: &String| customer.tags.iter().any(|tag| tag.as_str() == *wanted);
    let has_id = |wanted: &String| {
        let held = customer.external_id.as_ref();
        held.is_some_and(|held| held.as_str() == *wanted)
    };
    if !page.tag.as_ref().is_none_or(has_tag) || !page.external_id.as_ref().is_none_or(has_id) {
        return false;
    }
    let access = &known.installation.access;
    let is_location = |wanted: &String| {
        let held = access.location.as_ref();
        held.is_some_and(|held| held.as_str() == *wanted)
    };
    if !page.location.as_ref().is_none_or(is_location) {
        return false;
    }
    let is_company = |wanted| {
        access
            .company
            .as_ref()
            .is_some_and(|it| it.as_str() == wanted)
    };
    parent.is_none_or(|parent| access.parent.as_ref() == Some(parent))
        && company.is_none_or(is_company)
        && app.is_none_or(|app| access.app.as_str() == app)
}
