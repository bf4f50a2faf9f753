//! The public and the internal routes. Every route gets metrics, a line in the access log, a request id and a span.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, get, on, post};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use serde::Serialize;
use service::error_body::Shape;
use service::openapi::{Group, PUBLIC};
use service::origin::OwnHosts;
use service::root::{self, Root};
use service::trace;
use store::Scope;
use tokio::time::Instant;
use tracing::{Instrument, warn};
use utoipa::__dev::SchemaReferences;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Paths;
use utoipa_axum::PathItemExt;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::error_response::{ErrorChain, respond};
use super::span::span_of;
use super::state::Api;
use super::{broker_proxy, cors, endpoints, mcp, token_endpoint};
use crate::access_log::decision::Facts;
use crate::access_log::line::Line;
use crate::error::Error;
use crate::metrics::{AnsweredBy, Route};
use crate::request::headers::REQUEST_ID;
use crate::token::provider::TokenError;

/// Longer request ids are replaced, to keep log lines short.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Wraps a handler with the metrics of its route.
macro_rules! handled {
    ($method:ident, $route:expr, $handler:expr) => {
        $method(async |State(api): State<Arc<Api>>, request: Request| {
            observed(&api, $route, request, $handler).await
        })
    };
}

/// A documented route. Its path and its method are those of the documentation. The handler gets the metrics of the route.
macro_rules! documented {
    ($documentation:path, $route:expr, $handler:expr) => {
        with_documentation::<$documentation>(|filter| {
            on(
                filter,
                async |State(api): State<Arc<Api>>, request: Request| {
                    observed(&api, $route, request, $handler).await
                },
            )
        })
    };
}

/// `P`: the documentation.
fn with_documentation<P: utoipa::Path + SchemaReferences>(
    handle: impl FnOnce(MethodFilter) -> MethodRouter<Arc<Api>>,
) -> UtoipaMethodRouter<Arc<Api>> {
    let mut schemas = Vec::new();
    P::schemas(&mut schemas);
    let methods = P::methods();
    let filters = methods.iter().map(PathItemExt::to_method_filter);
    let filter = filters.reduce(MethodFilter::or);
    let handler = filter.map(handle).unwrap_or_default();
    let mut paths = Paths::new();
    paths.add_path_operation(P::path(), methods, P::operation());
    (schemas, paths, handler)
}

/// The routes that the gateway serves itself on the public listener, but `/ghl`.
fn own() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(documented!(__path_root, Route::Health, root))
        .routes(documented!(__path_health, Route::Health, health))
}

/// The shortcuts for calls to GHL.
fn shortcuts() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(documented!(
            endpoints::__path_test_connection,
            Route::TestConnection,
            endpoints::test_connection
        ))
        .routes(documented!(
            endpoints::__path_products,
            Route::Products,
            endpoints::products
        ))
        .routes(documented!(
            endpoints::__path_create_product,
            Route::CreateProduct,
            endpoints::create_product
        ))
        .routes(documented!(
            endpoints::__path_create_contact,
            Route::CreateContact,
            endpoints::create_contact
        ))
        .routes(documented!(
            endpoints::__path_test_product,
            Route::TestProduct,
            endpoints::test_product
        ))
        .routes(documented!(
            endpoints::__path_upload_file,
            Route::UploadFile,
            endpoints::upload_file
        ))
}

/// The documentation of the route for internal services.
#[derive(utoipa::OpenApi)]
#[openapi(paths(token_endpoint::token))]
struct Internal;

/// The documentation of the gateway's routes, but of those that it passes on to a broker.
#[must_use]
pub fn openapi() -> OpenApi {
    let own_group = Group {
        tag: "Operations",
        scope: None,
        errors: &[400],
        shape: Shape::Ghl,
        has_pages: false,
        server: Some(PUBLIC),
    };
    let shortcut_group = Group {
        tag: "Calls to GHL",
        scope: Some(Scope::Proxy.as_str()),
        errors: &[400, 401, 403, 429, 502, 503, 504],
        ..own_group.clone()
    };
    let token_group = Group {
        tag: "Tokens",
        scope: Some(Scope::Tokens.as_str()),
        errors: &[400, 401, 403, 429, 503],
        shape: Shape::Problem,
        has_pages: false,
        server: None,
    };
    let mut api = own().into_openapi();
    own_group.describe(&mut api);
    let mut shortcuts = shortcuts().into_openapi();
    shortcut_group.describe(&mut shortcuts);
    let mut internal = <Internal as utoipa::OpenApi>::openapi();
    token_group.describe(&mut internal);
    api.merge(shortcuts);
    api.merge(internal);
    api
}

/// All public routes but `/ghl`.
pub(crate) fn public(api: Arc<Api>) -> Router {
    // A broker's documentation has these.
    let passed_on = |router: Router<Arc<Api>>, path: &&str| {
        router.route(path, handled!(get, Route::Broker, broker_proxy::consent))
    };
    let router = Router::from(own().merge(shortcuts()));
    broker_proxy::CONSENTS
        .iter()
        .fold(router, passed_on)
        .route("/mcp", handled!(any, Route::Mcp, mcp::call))
        .route("/mcp/", handled!(any, Route::Mcp, mcp::call))
        .route("/mcp/{*path}", handled!(any, Route::Mcp, mcp::call))
        .route(
            broker_proxy::STATUS,
            handled!(get, Route::Broker, broker_proxy::status),
        )
        .route(
            broker_proxy::WEBHOOK,
            handled!(post, Route::Broker, broker_proxy::webhook),
        )
        .method_not_allowed_fallback(async |State(api): State<Arc<Api>>, request: Request| {
            observed(&api, Route::Unknown, request, wrong_method).await
        })
        .fallback(async |State(api): State<Arc<Api>>, request: Request| {
            observed(&api, Route::Unknown, request, no_route).await
        })
        .with_state(api)
}

/// `own_hosts`: the names of the internal listener.
pub(crate) fn internal(api: Arc<Api>, own_hosts: OwnHosts) -> Router {
    let hosts = own_hosts.clone();
    let connect = post(async move |State(api): State<Arc<Api>>, request: Request| {
        observed(&api, Route::Broker, request, async |api, request| {
            broker_proxy::connect(api, request, &hosts).await
        })
        .await
    });
    let token = get(async move |State(api): State<Arc<Api>>, request: Request| {
        observed(&api, Route::Token, request, async |api, request| {
            token_endpoint::token(api, request, &own_hosts).await
        })
        .await
    });
    let path = <token_endpoint::__path_token as utoipa::Path>::path();
    let router = Router::new().route(&path, token);
    let with = |router: Router<Arc<Api>>, path| router.route(path, connect.clone());
    let router = broker_proxy::CONNECT.into_iter().fold(router, with);
    router.with_state(api)
}

/// `/ghl/{any GHL path}`. Nearly all requests take this route.
///
/// It is not a route of the router, since the router would parse and allocate path parameters for each request
/// that are not used.
pub(crate) async fn proxy(api: &Arc<Api>, request: Request) -> Response {
    observed(api, Route::Ghl, request, async |api, request| {
        api.pipeline.proxy(request).await
    })
    .await
}

/// Answers a preflight of a page of this `origin`.
pub(crate) async fn preflight(api: &Arc<Api>, request: Request, origin: HeaderValue) -> Response {
    observed(api, Route::Preflight, request, async |_, request| {
        Ok(cors::preflight(origin, &request))
    })
    .await
}

/// Counts and logs a request, gives it an id and a span, and turns its error into a response.
async fn observed<F>(
    api: &Arc<Api>,
    route: Route,
    mut request: Request,
    handler: impl FnOnce(Arc<Api>, Request) -> F,
) -> Response
where
    F: Future<Output = Result<Response, Error>>,
{
    let started = Instant::now();
    let shape = match route {
        // A customer follows a link, and no broker answers.
        Route::Broker if broker_proxy::is_for_customer(&request) => Shape::Page,
        _ => Shape::of(request.uri().path()),
    };
    let id = request_id(request.headers_mut());
    let record = api.access_log.begin(&mut request);
    let span = span_of(route, &request);
    let outcome = if span.is_disabled() {
        handler(Arc::clone(api), request).await
    } else {
        span.record("request_id", id.to_str().unwrap_or_default());
        if let Some(record) = &record {
            record.note_trace(&span);
        }
        handler(Arc::clone(api), request)
            .instrument(span.clone())
            .await
    };
    let by = AnsweredBy::of(route, &outcome);
    let mut code = None;
    let mut response = outcome.unwrap_or_else(|error| {
        code = Some(error.code());
        let is_failure = error.status().is_server_error() && !is_overload(&error);
        if is_failure && api.access_log.admits_cause() {
            let request_id = id.to_str().unwrap_or_default();
            warn!(route = route.as_str(), request_id, error = %ErrorChain(&error), "request failed");
        }
        if let Some(limited) = error.limited() {
            api.metrics.count_limited(limited);
        }
        error.respond(shape)
    });
    let (status, took) = (response.status(), started.elapsed());
    trace::answered(&span, status, false);
    api.metrics.count(route, by, status, took);
    api.calls.count(route, by, status);
    if let Some(record) = record {
        api.access_log.end(&Line {
            record,
            request_id: id.clone(),
            facts: Facts { by, status, took },
            code,
            bytes: response.body().size_hint().exact(),
        });
    }
    response.headers_mut().entry(REQUEST_ID).or_insert(id);
    response
}

/// Overload is counted, but not logged for each request.
fn is_overload(error: &Error) -> bool {
    matches!(
        error,
        Error::Overloaded(_) | Error::Token(TokenError::Overloaded(_))
    )
}

/// The request id that the caller sent, or a new one.
fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(0);

    let given = headers.get(REQUEST_ID);
    if let Some(given) = given.filter(|id| id.len() <= MAX_REQUEST_ID_BYTES) {
        return given.clone();
    }
    let number = PROCESS.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let id = HeaderValue::from_bytes(&hex(number));
    let id = id.unwrap_or_else(|_| HeaderValue::from_static("none"));
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// The number as sixteen digits.
fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|digit| b"0123456789abcdef"[(number >> (60 - 4 * digit) & 15) as usize])
}

/// That the gateway serves requests.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`
    #[schema(value_type = String)]
    status: &'static str,
}

/// Tell whether the gateway serves requests
///
/// `/readyz` on the internal listener says whether it can do its work.
#[utoipa::path(get, path = "/health", operation_id = "getHealth", responses(
    (status = 200, description = "It serves requests", body = Health),
))]
async fn health(_: Arc<Api>, _: Request) -> Result<Response, Error> {
    Ok(respond(StatusCode::OK, &Health { status: "ok" }))
}

/// Say what this is
///
/// A page for browsers, and an object for others: whether the gateway can do its work, and nothing else.
#[utoipa::path(get, path = "/", operation_id = "getRoot", responses(
    (status = 200, description = "What this is", body = Root),
))]
async fn root(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let is_well = api.readiness.reasons().is_empty();
    Ok(root::page(request.headers(), is_well))
}

async fn no_route(_: Arc<Api>, request: Request) -> Result<Response, Error> {
    Err(Error::NoRoute {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    })
}

async fn wrong_method(_: Arc<Api>, request: Request) -> Result<Response, Error> {
    Err(Error::WrongMethod {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    })
}
