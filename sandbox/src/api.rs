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
mod medias;
mod products;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, post};

pub(crate) use caller::Caller;

use crate::app::App;

pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let echo = any(echo::echo);
    let routes = Router::new()
        .route("/_sandbox/echo", echo.clone())
        .route("/_sandbox/echo/", echo.clone())
        .route("/_sandbox/echo/{*path}", echo);
    let upload = post(medias::upload).layer(DefaultBodyLimit::disable());
    let with_or_without_slash: [(&str, MethodRouter<Arc<App>>); 15] = [
        ("/products", get(products::list).post(products::create)),
        (
            "/products/{id}",
            get(products::show).delete(products::delete),
        ),
        ("/contacts", get(contacts::list).post(contacts::create)),
        ("/contacts/upsert", post(contacts::upsert)),
        ("/contacts/{id}", get(contacts::show)),
        ("/locations/search", get(locations::search)),
        ("/locations/{id}", get(locations::show)),
        ("/medias/upload-file", upload),
        ("/medias/files", get(medias::list)),
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
