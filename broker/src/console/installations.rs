//! The list of installations: filters, search, agencies with their locations, and pages of it.

mod change;
mod end;
mod row;
mod show;

pub(super) use row::label;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use store::InstallationId;
use store_writer::WriteError;
use url::form_urlencoded::Serializer;

use super::{Console, Page, Section, Viewer, render};
use crate::Broker;
use crate::api::admin::list::search::{Found, Search, search};
use crate::api::admin::list::{Filter, parse_status};
use crate::api::error::Error;
use crate::api::extract::QueryString;
use crate::api::status::TokenStatus;
use crate::diagnosis::facts::read;
pub(super) use change::{LinkMade, tags_of};
use row::Row;

const PATH: &str = "/console/installations";
/// The rows of a page.
const ROWS: usize = 50;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(PATH, get(list))
        .route("/console/installations/{id}", get(show::show))
        .route("/console/installations/{id}/refresh", post(change::refresh))
        .route("/console/installations/{id}/link", post(change::link))
        .route(
            "/console/installations/{id}/customer",
            post(change::customer),
        )
        .route(
            "/console/installations/{id}/revoke",
            get(end::ask_revoke).post(end::revoke),
        )
        .route(
            "/console/installations/{id}/delete",
            get(end::ask_delete).post(end::delete),
        )
}

/// The path of the page of an installation.
pub(super) fn path_of(id: &InstallationId) -> String {
    format!("{PATH}/{id}")
}

/// The query of the list. An empty field of the form is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Query {
    q: String,
    status: String,
    app: String,
    tag: String,
    /// `agencies` for agencies alone.
    kind: String,
    /// The agency whose locations are shown.
    parent: String,
    /// Whether the search looks at all installations, even if it is exactly the id of one.
    everywhere: String,
    after: String,
}

impl Query {
    /// The members, by their names.
    fn members(&self) -> [(&'static str, &str); 8] {
        [
            ("q", &self.q),
            ("status", &self.status),
            ("app", &self.app),
            ("tag", &self.tag),
            ("kind", &self.kind),
            ("parent", &self.parent),
            ("everywhere", &self.everywhere),
            ("after", &self.after),
        ]
    }

    /// The path of the list with these.
    fn path(&self) -> String {
        let mut query = Serializer::new(String::new());
        let members = self.members().into_iter();
        query.extend_pairs(members.filter(|(_, value)| !value.is_empty()));
        match query.finish() {
            query if query.is_empty() => PATH.to_owned(),
            query => format!("{PATH}?{query}"),
        }
    }

    fn search(&self) -> Result<Search, Error> {
        let text = |text: &str| {
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let after = text(&self.after).map(|after| after.parse()).transpose();
        let after = after.map_err(|_| Error::invalid("This page of the list does not exist"))?;
        let status = text(&self.status).map(|it| parse_status(&it)).transpose()?;
        Ok(Search {
            after,
            limit: ROWS,
            parent: text(&self.parent),
            filter: Filter {
                app: text(&self.app),
                status,
                tag: text(&self.tag),
                ..Filter::default()
            },
            are_agencies: self.kind == "agencies",
            q: text(&self.q),
            is_everywhere: !self.everywhere.is_empty(),
        })
    }

    fn has_filter(&self) -> bool {
        let members = self.members().into_iter();
        members
            .filter(|(name, _)| *name != "after")
            .any(|(_, value)| !value.trim().is_empty())
    }
}

#[derive(Template)]
#[template(path = "console/installations.html")]
struct List {
    page: Page,
    query: Query,
    statuses: Vec<(&'static str, &'static str)>,
    apps: Vec<String>,
    /// The agency whose locations are shown.
    parent: Option<Row>,
    rows: Vec<Row>,
    /// How many were looked at, if no index has answered.
    searched: Option<u64>,
    /// The first page, if this is another one.
    first: Option<String>,
    next: Option<String>,
    /// The search among all installations, if this one has only exact matches.
    everywhere: Option<String>,
}

impl List {
    /// The end of the page, which says how far the search has come.
    fn progress(&self) -> String {
        match (self.searched, &self.next) {
            (Some(searched), Some(_)) if self.rows.len() < ROWS => {
                format!("Looked at {searched} installations. There are more.")
            }
            (_, Some(_)) => "There are more.".to_owned(),
            (_, None) => "This is the end of the list.".to_owned(),
        }
    }
}

async fn list(
    State(broker): State<Broker>,
    QueryString(query): QueryString<Query>,
    viewer: Viewer,
) -> Result<Response, Error> {
    let found = search(&broker, &query.search()?).await?;
    let apps = broker.0.worker.apps.current();
    let known = apps.known();
    let parent = match query.parent.parse::<InstallationId>() {
        Ok(id) => read(&broker, &id).await?.map(|it| Row::of(&it, &known)),
        Err(_) => None,
    };
    let Found {
        entries,
        next,
        searched,
        is_exact,
    } = found;
    let first = (!query.after.is_empty()).then(|| {
        let first = Query {
            after: String::new(),
            ..query.clone()
        };
        first.path()
    });
    let next = next.map(|next| {
        let next = Query {
            after: next.to_string(),
            ..query.clone()
        };
        next.path()
    });
    let everywhere = is_exact.then(|| {
        let everywhere = Query {
            everywhere: "yes".to_owned(),
            after: String::new(),
            ..query.clone()
        };
        everywhere.path()
    });
    Ok(render(&List {
        page: viewer.page("Installations", Section::Installations),
        rows: entries.iter().map(|it| Row::of(it, &known)).collect(),
        statuses: TokenStatus::ALL
            .map(|it| (it.as_str(), row::label(it).0))
            .to_vec(),
        apps: apps.apps.iter().map(|app| app.name.to_string()).collect(),
        query,
        parent,
        searched,
        first,
        next,
        everywhere,
    }))
}

/// How many locations an agency has.
async fn count_locations(broker: &Broker, id: &InstallationId) -> Result<usize, WriteError> {
    Ok(broker.0.writer.children(id).await?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_part_of_the_links_to_other_pages() {
        let query = Query {
            q: "a & b".to_owned(),
            status: "invalid".to_owned(),
            ..Query::default()
        };
        assert_eq!(
            query.path(),
            "/console/installations?q=a+%26+b&status=invalid"
        );
        assert_eq!(Query::default().path(), PATH);
        let search = query.search().unwrap();
        assert_eq!(search.filter.status, Some(TokenStatus::Invalid));
        assert_eq!(search.q.as_deref(), Some("a & b"));
    }

    #[test]
    fn unknown_status_and_page_are_refused() {
        for (status, after) in [("Invalid", ""), ("", "7")] {
            let query = Query {
                status: status.to_owned(),
                after: after.to_owned(),
                ..Query::default()
            };
            assert_eq!(query.search().unwrap_err().code(), "request_invalid");
        }
    }
}
