//! The routes for the backends of apps: one-time links, browser keys and user contexts. They need a key with the scope
//! `connect`.

mod browser_keys;
mod installation;
pub(crate) mod links;
mod sso;
mod validity;

pub(super) use browser_keys::NO_STORE;

use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;

/// The largest body, in bytes. Gateways take no larger one either.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The routes, without the check of the key. It puts an [`auth::Backend`](super::auth::Backend) into each request.
pub(super) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(browser_keys::create))
        .routes(routes!(links::create))
        .routes(routes!(links::reconnect))
        .routes(routes!(sso::decrypt))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}
