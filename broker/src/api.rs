//! The broker's HTTP API.
//!
//! Two listeners serve it. The public one takes what gateways pass on, and their refresh requests. The
//! internal one is for operators.

pub mod admin;
mod auth;
pub(crate) mod error;
mod extract;
mod html;
mod oauth;
pub(crate) mod refresh_api;
mod status;
mod webhook;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::{Method, Uri};

use crate::Broker;
use error::{Error, ErrorKind};

impl Broker {
    /// The routes for customers, GHL's webhooks and gateways. If `is_loopback` is false, the status of
    /// an installation always needs a caller key, even before the first key was created.
    pub fn public(&self, is_loopback: bool) -> Router {
        Router::new()
            .merge(oauth::routes())
            .merge(status::routes(is_loopback))
            .merge(webhook::routes())
            .merge(refresh_api::routes())
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(route_not_found)
            .with_state(self.clone())
    }

    /// The routes for operators. If `is_loopback` is false, they need a key with the scope `admin`.
    pub fn internal(&self, is_loopback: bool) -> Router {
        let routes = admin::routes()
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(route_not_found);
        let guarded = if is_loopback {
            routes
        } else {
            routes.layer(from_fn_with_state(self.clone(), auth::require_admin))
        };
        guarded.with_state(self.clone())
    }
}

async fn route_not_found(uri: Uri) -> Error {
    let message = format!("There is no route {}", uri.path());
    Error::new(ErrorKind::RouteNotFound, message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Error {
    let message = format!("{} does not take {method}", uri.path());
    Error::new(ErrorKind::MethodNotAllowed, message)
}
