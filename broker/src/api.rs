//! The broker's HTTP API.
//!
//! Two listeners serve it. The public one takes what gateways pass on, and their refresh requests. The
//! internal one is for operators, and for the backends of apps.

pub mod admin;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod connect;
mod consent_cookie;
mod console;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod extract;
pub(crate) mod html;
mod log_level;
mod lookup_api;
mod oauth;
pub(crate) mod openapi;
mod overview;
pub(crate) mod refresh_api;
mod seal;
pub(crate) mod span;
pub(crate) mod status;
mod webhook;

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use service::origin::OwnHosts;
use service::root;
use store::KeyHash;

use crate::Broker;
use auth::{Administration, ConnectAccess, LocalAdmin};
use error::{Error, ErrorKind};

impl Broker {
    /// The routes for customers, GHL's webhooks and gateways. `own_hosts`: the names of the listener.
    /// `allows_anonymous`: whether the state of an installation is shown without a key. Only for the sandbox.
    pub fn public(&self, own_hosts: OwnHosts, allows_anonymous: bool) -> Router {
        let links = from_fn_with_state(own_hosts.clone(), auth::refuse_foreign_pages_but_links);
        // Gateways pass these on, too.
        let connect = self.guarded_connect(own_hosts.clone());
        Router::from(status::routes(allows_anonymous).merge(webhook::routes()))
            .layer(from_fn_with_state(own_hosts, auth::refuse_foreign_pages))
            .merge(Router::from(oauth::routes()).layer(links))
            .merge(connect)
            // These are for gateways, and not documented for others.
            .merge(refresh_api::routes())
            .merge(lookup_api::routes())
            .merge(audit::reports())
            .route("/health", get(health))
            .route("/", get(root))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(route_not_found)
            .layer(from_fn(error::shaped))
            .layer(from_fn(span::traced))
            .with_state(self.clone())
    }

    /// The routes for the backends of apps. They need a key with the scope `connect`. `own_hosts`: the names of the
    /// listener.
    pub fn connect(&self, own_hosts: OwnHosts) -> Router {
        self.guarded_connect(own_hosts)
            .layer(from_fn(span::traced))
            .with_state(self.clone())
    }

    fn guarded_connect(&self, own_hosts: OwnHosts) -> Router<Self> {
        let access = ConnectAccess {
            broker: self.clone(),
            own_hosts,
        };
        Router::from(connect::routes())
            .layer(from_fn_with_state(access, auth::require_connect))
            .layer(from_fn(error::shaped))
    }

    /// The routes for operators. They need a key with the scope `admin`. `own_hosts`: the names of the listener.
    /// `local_admin`: the key of this machine's administrator, which is accepted while the store is away.
    pub fn internal(&self, own_hosts: OwnHosts, local_admin: KeyHash) -> Router {
        let administration = Administration {
            broker: self.clone(),
            own_hosts,
            local_admin: LocalAdmin::new(local_admin),
        };
        let routes = openapi::administration().into_iter();
        let routes = routes.fold(Router::<Self>::new(), |all, (_, some)| {
            all.merge(Router::from(some))
        });
        routes
            .merge(Router::from(openapi::readable()))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(route_not_found)
            .layer(from_fn_with_state(administration, auth::require_admin))
            .layer(from_fn(error::shaped))
            .layer(from_fn(span::traced))
            .with_state(self.clone())
    }
}

/// Whether this broker serves, as on a gateway. `/readyz` on the internal listener says whether it can do its work.
async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Says that this is evergreen, and whether it can do its work.
async fn root(State(broker): State<Broker>, headers: HeaderMap) -> Response {
    root::page(&headers, broker.0.readiness.reasons().is_empty())
}

async fn route_not_found(uri: Uri) -> Error {
    let message = format!("There is no route {}", uri.path());
    Error::new(ErrorKind::RouteNotFound, message)
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Error {
    let message = format!("{} does not take {method}", uri.path());
    Error::new(ErrorKind::MethodNotAllowed, message)
}
