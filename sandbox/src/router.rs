//! All routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;

use crate::app::App;
use crate::error::ApiError;
use crate::{api, consent, html, oauth, steering};

const INDEX: &str = include_str!("index.html");

pub(crate) fn router(app: Arc<App>) -> Router {
    let consent = get(consent::show).post(consent::choose);
    Router::new()
        .route("/", get(index))
        .route("/oauth/chooselocation", consent.clone())
        .route("/v2/oauth/chooselocation", consent)
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/token/", post(oauth::token))
        .route("/_sandbox/ledger", get(steering::ledger))
        .route("/_sandbox/ledger/{id}", get(steering::ledger_of))
        .route(
            "/_sandbox/faults",
            get(steering::faults)
                .put(steering::put_faults)
                .delete(steering::delete_faults),
        )
        .route(
            "/_sandbox/settings",
            get(steering::settings).put(steering::put_settings),
        )
        .route("/_sandbox/revoke", post(steering::revoke))
        .route("/_sandbox/pause", post(steering::pause))
        .route("/_sandbox/resume", post(steering::resume))
        .route("/_sandbox/expire", post(steering::expire))
        .route("/_sandbox/webhooks", post(steering::send_webhook))
        .route("/_sandbox/webhook-key.pem", get(steering::webhook_key))
        .merge(api::router(&app))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(app)
}

async fn index() -> Response {
    html::page("A GoHighLevel of your own", INDEX)
}

/// GHL says so of an unknown path and of a method that a path does not have.
async fn nothing_here(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(&format!("Cannot {method} {}", uri.path()))
}
