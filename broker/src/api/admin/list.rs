//! The list of installations, in pages.

mod filter;
pub(crate) mod search;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::InstallationId;
use utoipa::{IntoParams, ToSchema};

use crate::Broker;
use crate::api::error::Error;
use crate::api::extract::QueryString;
use crate::api::status::{AnyView, TokenStatus};
pub(crate) use filter::Filter;
use search::{Search, search};

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
    /// Only agencies.
    #[serde(default)]
    agencies: bool,
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
    /// A search. If it is exactly the id, location, company, external id or tag of some, only these are listed. Else those
    /// that have it as a part of these or of the company's name, in any case.
    q: Option<String>,
    /// Whether the search looks at all installations, even if it is exactly the id of one.
    #[serde(default)]
    everywhere: bool,
}

/// A page of installations.
#[derive(Serialize, ToSchema)]
pub(super) struct Installations {
    installations: Vec<AnyView>,
    /// The `after` of the next page. `null` on the last one.
    next: Option<String>,
    /// How many installations were looked at for this page. Absent if an index has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    searched: Option<u64>,
    /// Whether the search is exactly the id, location, company, external id or tag of these. Absent without a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
}

/// List installations
///
/// They are in the order of their ids. A filter or search that no index answers takes at most a fifth of a second for a
/// page. So a page may have fewer entries than `limit`, or none. The list ends where `next` is `null`.
#[utoipa::path(get, path = "/v1/installations", operation_id = "listInstallations", params(Page), responses(
    (status = 200, description = "A page", body = Installations),
))]
pub(super) async fn list(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Installations>, Error> {
    let has_query = page.q.as_ref().is_some_and(|q| !q.trim().is_empty());
    let found = search(&broker, &page.try_into()?).await?;
    let known = broker.0.worker.apps.current().known();
    let views = found.entries.iter();
    Ok(Json(Installations {
        installations: views.map(|entry| AnyView::of(entry, &known)).collect(),
        next: found.next.map(|next| next.to_string()),
        searched: found.searched,
        exact: has_query.then_some(found.is_exact),
    }))
}

impl TryFrom<Page> for Search {
    type Error = Error;

    fn try_from(page: Page) -> Result<Self, Error> {
        let status = page.status.as_deref().map(parse_status).transpose()?;
        Ok(Self {
            after: page.after,
            limit: page.limit.unwrap_or(100).clamp(1, 1000),
            parent: page.parent,
            filter: Filter {
                company: page.company,
                app: page.app,
                status,
                tag: page.tag,
                location: page.location,
                external_id: page.external_id,
            },
            are_agencies: page.agencies,
            q: page.q,
            is_everywhere: page.everywhere,
        })
    }
}

/// # Errors
/// 400 with the statuses that there are.
pub(crate) fn parse_status(name: &str) -> Result<TokenStatus, Error> {
    TokenStatus::parse(name).ok_or_else(|| {
        let known = TokenStatus::ALL.map(TokenStatus::as_str).join(", ");
        Error::invalid(format!("`status` is {name}: it can be {known}"))
    })
}
