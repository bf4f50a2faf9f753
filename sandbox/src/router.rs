//! All routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;

use crate::app::App;
use crate::error::ApiError;
use crate::{api, consent, control, html, oauth};

const INDEX: &str = include_str!("index.html");

pub(crate) fn router(app: Arc<App>) -> Router {
    let consent = get(consent::show).post(consent::choose);
    Router::new()
        .route("/", get(index))
        .route("/oauth/chooselocation", consent.clone())
        .route("/v2/oauth/chooselocation", consent)
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/token/", post(oauth::token))
        .route("/_sandbox/ledger", get(control::ledger))
        .route("/_sandbox/ledger/{id}", get(control::ledger_of))
        .route(
            "/_sandbox/faults",
            get(control::faults)
                .put(control::put_faults)
                .delete(control::delete_faults),
        )
        .route(
            "/_sandbox/settings",
            get(control::settings).put(control::put_settings),
        )
        .route("/_sandbox/revoke", post(control::revoke))
        .route("/_sandbox/pause", post(control::pause))
        .route("/_sandbox/resume", post(control::resume))
        .route("/_sandbox/expire", post(control::expire))
        .route("/_sandbox/agencies", post(control::agencies::create_agency))
        .route(
            "/_sandbox/locations",
            post(control::agencies::create_location),
        )
        .route("/_sandbox/install", post(control::agencies::install))
        .route("/_sandbox/uninstall", post(control::agencies::uninstall))
        .route(
            "/_sandbox/webhooks",
            get(control::webhooks::list).post(control::webhooks::send),
        )
        .route("/_sandbox/webhooks/resend", post(control::webhooks::resend))
        .route("/_sandbox/webhook-key.pem", get(control::webhook_key))
        .merge(api::router(&app))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(app)
}

async fn index() -> Response {
    html::page("A GoHighLevel of your own", INDEX)
}

/// GHL's error for an unknown path or method.
async fn nothing_here(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(&format!("Cannot {method} {}", uri.path()))
}
