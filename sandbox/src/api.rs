//! The part of GHL's API that the sandbox implements: the routes that require an access token.

mod agency;
mod caller;
mod companies;
mod contacts;
mod echo;
mod guard;
mod installed;
mod locations;
mod marketplace;
mod mcp;
mod medias;
mod opportunities;
mod page;
mod products;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, post, put};

pub(crate) use caller::Caller;
pub(crate) use mcp::McpSessions;

use crate::app::App;

pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let echo = any(echo::echo);
    // A broker whose API is the echo asks GHL for locations of agencies.
    let routes = Router::new()
        .route(
            "/_sandbox/echo/oauth/locationToken",
            post(agency::location_token),
        )
        .route(
            "/_sandbox/echo/oauth/installedLocations",
            get(installed::list),
        )
        .route(
            ghl::mcp::PATH,
            get(mcp::listen).post(mcp::message).delete(mcp::end),
        )
        .route("/_sandbox/echo", echo.clone())
        .route("/_sandbox/echo/", echo.clone())
        .route("/_sandbox/echo/{*path}", echo);
    let upload = post(medias::upload).layer(DefaultBodyLimit::disable());
    let with_or_without_slash: [(&str, MethodRouter<Arc<App>>); 22] = [
        ("/products", get(products::list).post(products::create)),
        (
            "/products/{id}",
            get(products::show)
                .put(products::update)
                .delete(products::delete),
        ),
        ("/contacts", get(contacts::list).post(contacts::create)),
        ("/contacts/upsert", post(contacts::upsert)),
        ("/contacts/search", post(contacts::search::search)),
        (
            "/contacts/{id}",
            get(contacts::show)
                .put(contacts::update)
                .delete(contacts::delete),
        ),
        ("/opportunities", post(opportunities::create)),
        (
            "/opportunities/search",
            get(opportunities::search).post(opportunities::search_by_body),
        ),
        ("/locations/search", get(locations::search)),
        ("/locations/{id}", get(locations::show)),
        ("/medias/upload-file", upload),
        ("/medias/files", get(medias::list)),
        ("/medias/folder", post(medias::manage::create_folder)),
        ("/medias/update-files", put(medias::manage::update_several)),
        ("/medias/delete-files", put(medias::manage::delete_several)),
        (
            "/medias/{id}",
            post(medias::manage::rename).delete(medias::manage::delete),
        ),
        ("/companies/{id}", get(companies::show)),
        (
            "/marketplace/app/{app}/installations",
            delete(marketplace::uninstall),
        ),
        ("/oauth/locationToken", post(agency::location_token)),
        ("/oauth/location-token", post(agency::location_token_v3)),
        ("/oauth/installedLocations", get(installed::list)),
        ("/oauth/installed-locations", get(installed::list_v3)),
    ];
    with_or_without_slash
        .into_iter()
        .fold(routes, |routes, (path, methods)| {
            routes
                .route(path, methods.clone())
                .route(&format!("{path}/"), methods)
        })
        .route_layer(middleware::from_fn_with_state(app.clone(), guard::guard))
}
