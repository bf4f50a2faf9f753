//! The apps at GHL that the settings and the store know.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::{Administrator, Console, Page, Section, Viewer, done, render};
use crate::Broker;
use crate::api::admin::{all_apps, free_name};
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::PathName;

const PATH: &str = "/console/apps";

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(PATH, get(list))
        .route("/console/apps/{name}/free", get(ask).post(free))
}

struct Row {
    name: String,
    client_id: Option<String>,
    app_id: Option<String>,
    problem: Option<String>,
}

impl Row {
    /// The state in words, and the class of its badge.
    fn state(&self) -> (&'static str, &'static str) {
        match (&self.problem, &self.client_id, &self.app_id) {
            (Some(_), _, _) => ("cannot be used", "bad"),
            (None, None, _) => ("not in the settings", "warn"),
            (None, Some(_), None) => ("no installation yet", ""),
            (None, Some(_), Some(_)) => ("in use", "good"),
        }
    }

    /// Whether the name is taken by an app that can be removed from the store.
    fn is_named_in_store(&self) -> bool {
        self.app_id.is_some()
    }
}

#[derive(Template)]
#[template(path = "console/apps.html")]
struct List {
    page: Page,
    apps: Vec<Row>,
}

async fn rows(broker: &Broker) -> Result<Vec<Row>, Error> {
    let apps = all_apps(broker).await?.into_iter().map(|app| Row {
        name: app.name.to_string(),
        client_id: app.client_id.map(|id| id.to_string()),
        app_id: app.app_id_in_store,
        problem: app.problem,
    });
    Ok(apps.collect())
}

async fn list(State(broker): State<Broker>, viewer: Viewer) -> Result<Response, Error> {
    Ok(render(&List {
        page: viewer.page("Apps", Section::Apps),
        apps: rows(&broker).await?,
    }))
}

#[derive(Template)]
#[template(path = "console/app_free.html")]
struct Ask {
    page: Page,
    app: Row,
}

async fn ask(
    State(broker): State<Broker>,
    PathName(name): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let mut apps = rows(&broker).await?.into_iter();
    let app = apps.find(|app| app.name == name && app.is_named_in_store());
    let unknown = || Error::new(ErrorKind::AppUnknown, "There is no app of this name");
    Ok(render(&Ask {
        page: viewer.page("Free a name", Section::Apps),
        app: app.ok_or_else(unknown)?,
    }))
}

async fn free(
    State(broker): State<Broker>,
    PathName(name): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    free_name(&broker, &viewer.requester, &name).await?;
    Ok(done(PATH, format!("The name {name} is free.")))
}
