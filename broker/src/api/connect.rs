//! What the backend of an app asks for: links for customers, keys for browsers, and whom GHL shows a page to. It needs the scope `connect`.

mod browser_keys;
mod installation;
mod links;
mod sso;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use crate::Broker;

/// The largest body, in bytes. Gateways take no larger one either.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The routes, without the check of the key. It puts an [`auth::Backend`](super::auth::Backend) into each request.
pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route("/v1/browser-keys", post(browser_keys::create))
        .route("/v1/connect-links", post(links::create))
        .route(
            "/v1/installations/{name}/reconnect-link",
            post(links::reconnect),
        )
        .route("/v1/sso/decrypt", post(sso::decrypt))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}
