//! The stylesheet, the script and the icon. Their names contain their hash, so browsers keep them for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use store::KeyHash;

use super::Console;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::PathName;

const STYLE: &str = include_str!("../../assets/console.css");
const SCRIPT: &str = include_str!("../../assets/console.js");
const ICON: &str = include_str!("../../assets/icon.svg");

/// The paths of the assets.
#[derive(Debug)]
pub(super) struct Assets {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

pub(super) fn all() -> &'static Assets {
    static ALL: LazyLock<Assets> = LazyLock::new(|| Assets {
        style: path("console", "css", STYLE),
        script: path("console", "js", SCRIPT),
        icon: path("icon", "svg", ICON),
    });
    &ALL
}

fn path(name: &str, extension: &str, content: &str) -> String {
    let hash = KeyHash::of(content).to_string();
    format!("/console/assets/{name}-{}.{extension}", &hash[..16])
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/console/assets/{file}", get(asset))
}

async fn asset(PathName(file): PathName) -> Result<Response, Error> {
    let all = all();
    let known = [
        (&all.style, "text/css; charset=utf-8", STYLE),
        (&all.script, "text/javascript; charset=utf-8", SCRIPT),
        (&all.icon, "image/svg+xml", ICON),
    ];
    let is_asked_for = |path: &str| path.rsplit('/').next() == Some(&file);
    let found = known.into_iter().find(|(path, _, _)| is_asked_for(path));
    let Some((_, media_type, content)) = found else {
        return Err(Error::new(
            ErrorKind::RouteNotFound,
            "There is no such file",
        ));
    };
    let headers = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, content).into_response())
}
