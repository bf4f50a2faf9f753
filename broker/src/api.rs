//! The broker's HTTP API.
//!
//! Two listeners serve it. The public one takes what gateways pass on, and their refresh requests. The
//! internal one is for operators.

pub mod admin;
mod auth;
pub(crate) mod error;
mod html;
mod oauth;
pub(crate) mod refresh_api;
mod status;
mod webhook;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::Broker;

impl Broker {
    /// The routes for customers, GHL's webhooks and gateways. If `is_loopback` is false, the status of
    /// an installation always needs a caller key, even before the first key was created.
    pub fn public(&self, is_loopback: bool) -> Router {
        Router::new()
            .merge(oauth::routes())
            .merge(status::routes(is_loopback))
            .merge(webhook::routes())
            .merge(refresh_api::routes())
            .with_state(self.clone())
    }

    /// The routes for operators. If `is_loopback` is false, they need a key with the scope `admin`.
    pub fn internal(&self, is_loopback: bool) -> Router {
        let routes = admin::routes();
        let guarded = if is_loopback {
            routes
        } else {
            routes.layer(from_fn_with_state(self.clone(), auth::require_admin))
        };
        guarded.with_state(self.clone())
    }
}
