//! The documentation of the broker's routes (OpenAPI).
//!
//! The routers are made of documented handlers. So a route without documentation does not exist, except those for
//! gateways, which need a gateway's keys.

use service::error_body::Shape;
use service::openapi::{Group, PUBLIC};
use store::Scope;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::{
    admin, audit, connect, console, events, log_level, oauth, overview, seal, status, webhook,
};
use crate::Broker;

/// The routes for operators, by their tags.
pub(super) fn administration() -> [(&'static str, OpenApiRouter<Broker>); 8] {
    [
        ("Installations", admin::of_installations()),
        ("Apps", admin::of_apps()),
        ("Keys", admin::of_keys()),
        ("Events", events::routes()),
        ("Audit log", audit::routes()),
        ("Console", console::routes()),
        ("Sealing keys", seal::routes()),
        ("Operations", log_level::routes()),
    ]
}

/// The routes for those who may only look: a key with the scope `view` is enough.
pub(super) fn readable() -> OpenApiRouter<Broker> {
    overview::routes()
}

/// The documentation of all routes of a broker, but those for gateways.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut all = OpenApi::default();
    let mut add = |group: &Group, routes: OpenApiRouter<Broker>| {
        let mut api = routes.into_openapi();
        group.describe(&mut api);
        all.merge(api);
    };
    for (tag, routes) in administration() {
        add(&administration_group(tag), routes);
    }
    let of_viewers = Group {
        scope: Some(Scope::View.as_str()),
        ..administration_group("Operations")
    };
    add(&of_viewers, readable());
    add(&CONNECT, connect::routes());
    add(&CONSENTS, oauth::routes());
    add(&STATUS, status::routes(false));
    add(&WEBHOOKS, webhook::routes());
    all
}

fn administration_group(tag: &'static str) -> Group {
    Group {
        tag,
        scope: Some(Scope::Admin.as_str()),
        errors: &[400, 401, 403, 500, 503],
        shape: Shape::Problem,
        has_pages: false,
        server: None,
    }
}

/// A gateway passes these on, and may fail to do so.
const CONNECT: Group = Group {
    tag: "Backends of apps",
    scope: Some(Scope::Connect.as_str()),
    errors: &[400, 401, 403, 500, 502, 503, 504],
    shape: Shape::Problem,
    has_pages: false,
    server: None,
};

const CONSENTS: Group = Group {
    tag: "Consents",
    scope: None,
    errors: &[400, 403, 408, 413, 429, 502, 503, 504],
    shape: Shape::Ghl,
    has_pages: true,
    server: Some(PUBLIC),
};

const STATUS: Group = Group {
    tag: "State of an installation",
    scope: Some(Scope::Proxy.as_str()),
    errors: &[400, 401, 403, 408, 413, 429, 502, 503, 504],
    shape: Shape::Ghl,
    has_pages: false,
    server: Some(PUBLIC),
};

const WEBHOOKS: Group = Group {
    tag: "Webhooks",
    scope: None,
    errors: &[400, 403, 429, 502, 503, 504],
    shape: Shape::Ghl,
    has_pages: false,
    server: Some(PUBLIC),
};
