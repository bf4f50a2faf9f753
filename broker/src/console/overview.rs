//! The first page.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;

use super::{Console, Page, ROOT, Section, Viewer, render};

pub(super) fn routes() -> Router<Console> {
    Router::new().route(ROOT, get(show))
}

#[derive(Template)]
#[template(path = "console/overview.html")]
struct Overview {
    page: Page,
}

async fn show(viewer: Viewer) -> Response {
    render(&Overview {
        page: viewer.page("Overview", Section::Overview),
    })
}
