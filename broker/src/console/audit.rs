//! The audit log, the newest entries first.

mod entry;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use url::form_urlencoded;

use self::entry::{ACTIONS, Row};
use super::{Console, Page, Section, Viewer, render};
use crate::Broker;
use crate::api::audit::entries;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::QueryString;

const PATH: &str = "/console/audit";
/// The entries of a page.
const PAGE_SIZE: usize = 50;

pub(super) fn routes() -> Router<Console> {
    Router::new().route(PATH, get(list))
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    action: String,
    #[serde(default)]
    installation: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    page: usize,
}

impl ListQuery {
    /// The address of a page of the same list.
    fn link(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("action", &self.action),
            ("installation", &self.installation),
            ("key", &self.key),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("page", &page.to_string());
        format!("{PATH}?{}", query.finish())
    }
}

#[derive(Template)]
#[template(path = "console/audit.html")]
struct List {
    page: Page,
    /// Why there are no entries. Empty if there is no reason.
    problem: String,
    query: ListQuery,
    actions: &'static [&'static str],
    entries: Vec<Row>,
    newer: Option<String>,
    older: Option<String>,
}

async fn list(
    State(broker): State<Broker>,
    QueryString(query): QueryString<ListQuery>,
    viewer: Viewer,
) -> Result<Response, Error> {
    let wanted = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = [&query.action, &query.installation, &query.key].map(|text| wanted(text));
    let from = query.page.saturating_mul(PAGE_SIZE);
    let read = entries(&broker, filter, from, PAGE_SIZE + 1).await;
    let (mut found, problem) = match read {
        Ok(found) => (found, String::new()),
        Err(error) if error.kind == ErrorKind::InstallationNotFound => (Vec::new(), error.message),
        Err(error) if error.kind == ErrorKind::AppAmbiguous => (Vec::new(), error.message),
        Err(error) => return Err(error),
    };
    let has_older = found.len() > PAGE_SIZE;
    found.truncate(PAGE_SIZE);
    Ok(render(&List {
        page: viewer.page("Audit", Section::Audit),
        problem,
        newer: query.page.checked_sub(1).map(|page| query.link(page)),
        older: has_older.then(|| query.link(query.page.saturating_add(1))),
        actions: &ACTIONS,
        entries: found.iter().map(Row::of).collect(),
        query,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_other_pages_keep_the_filter() {
        let query = ListQuery {
            action: "key_revoked".to_owned(),
            installation: String::new(),
            key: "a&b \"<".to_owned(),
            page: 1,
        };
        let expected = "/console/audit?action=key_revoked&key=a%26b+%22%3C&page=2";
        assert_eq!(query.link(2), expected);
    }
}
