//! The documentation of all routes (OpenAPI 3.1). It is the same for every process and every deployment.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use service::error_body::{ErrorBody, Shape};
use service::openapi::{API_KEY, BEARER, Group, INTERNAL, server};
use service::ops;
use service::origin::{ForeignRequest, OwnHosts};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, Tag};

use crate::exit::Failure;

const ABOUT: &str = "\
evergreen keeps GoHighLevel (GHL) OAuth tokens fresh, and forwards calls with them.

- **Calls to GHL** go to `/ghl` and GHL's own path, such as `GET /ghl/contacts/`. GHL documents these paths, and this \
document does not have them. `docs/calling-ghl.md` has an introduction.
- **GHL's MCP server** is at `/mcp`. Name the location in the header `locationId`: evergreen adds its token. GHL documents \
the tools, and `docs/calling-ghl.md` how to use them with a key of evergreen.
- **Web pages** of the origins in `EVERGREEN_CORS_ORIGINS` can call GHL, and read the state of an installation.
- **Listeners**: each operation names its own. `evergreen up` has all operations. `evergreen broker` and \
`evergreen gateway` have a part each: administration is on the internal listener of brokers, and tokens and the public \
operations are those of gateways. The routes between the two are for them alone, and are not documented.
- **Keys**: `evergreen keys create` makes one. An operation says which scope its key needs. The scope `admin` includes \
all others.
- **Errors** have a stable `code`; `docs/errors.md` lists all codes. Below `/v1` they are problem details (RFC 9457). A \
method that a path does not take is a 405, and a path that does not exist is a 404.
- A client should ignore members that it does not know. Later versions may add some.";

/// The tags, in the order in which a newcomer needs them.
const TAGS: [(&str, &str); 14] = [
    ("Consents", "Customers connect their accounts. For browsers"),
    ("State of an installation", "Whether an installation works"),
    (
        "Calls to GHL",
        "Shortcuts for common calls. All other calls go to `/ghl`",
    ),
    ("Tokens", "For services that call GHL directly"),
    (
        "Backends of apps",
        "For the backends of apps: one-time links, browser keys and user contexts",
    ),
    ("Webhooks", "Notifications of GHL"),
    ("Installations", "Administration of installations"),
    ("Apps", "Administration of the names of apps"),
    ("Keys", "Administration of the keys of callers"),
    (
        "Events",
        "Changes of installations, and the endpoints that get them",
    ),
    (
        "Audit log",
        "Records of fetched tokens and of administration",
    ),
    ("Console", "Links to sign in to the web console"),
    (
        "Sealing keys",
        "Administration of the keys that seal tokens",
    ),
    ("Operations", "Health, metrics, and this document"),
];

/// The documentation of this route.
#[derive(utoipa::OpenApi)]
#[openapi(paths(document_route))]
struct Own;

/// Get this document
///
/// It is the same for every deployment. Beyond loopback, this needs a key, as `/metrics` does. Any live key will do.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", responses(
    (status = 200, description = "The document", body = Object),
    (status = 401, description = "Beyond loopback: no live key was sent", body = String, content_type = "text/plain"),
))]
async fn document_route() -> Response {
    let mut response = text().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// `GET /openapi.json`. `own_hosts`: the names of the listener.
pub(crate) fn routes(own_hosts: OwnHosts) -> Router {
    let path = <__path_document_route as utoipa::Path>::path();
    Router::new()
        .route(&path, get(document_route))
        .layer(from_fn_with_state(own_hosts, refuse_foreign_pages))
}

/// The document reveals nothing about a deployment. But a foreign page must not learn that evergreen runs here.
async fn refuse_foreign_pages(
    State(own_hosts): State<OwnHosts>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let foreign = match own_hosts.check(&parts) {
        Ok(()) => return next.run(Request::from_parts(parts, body)).await,
        Err(foreign) => foreign,
    };
    let code = match foreign {
        ForeignRequest::Host => "host_not_allowed",
        ForeignRequest::Origin | ForeignRequest::CrossSite => "cross_site_request",
    };
    ErrorBody::new(StatusCode::FORBIDDEN, code, foreign.to_string()).into_response(Shape::Ghl)
}

/// `evergreen openapi`
pub(crate) fn print() -> Result<(), Failure> {
    crate::output::print(&text())
}

/// The document as JSON.
fn text() -> String {
    // Maps with text keys serialize.
    let json = document().to_pretty_json().unwrap_or_default();
    json + "\n"
}

fn document() -> OpenApi {
    let mut own = <Own as utoipa::OpenApi>::openapi();
    let group = Group {
        tag: "Operations",
        scope: None,
        errors: &[400, 403],
        shape: Shape::Ghl,
        has_pages: false,
        server: None,
    };
    group.describe(&mut own);
    let mut all = broker::openapi();
    for part in [gateway::openapi(), ops::openapi(), own] {
        all.merge(part);
    }
    all.info = InfoBuilder::new()
        .title("evergreen")
        // Not that of the build, so that the document changes only if the API does.
        .version("1")
        .description(Some(ABOUT))
        .license(Some(license()))
        .build();
    all.servers = Some(vec![server(INTERNAL)]);
    all.tags = Some(TAGS.into_iter().map(tag).collect());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of evergreen, such as `evg_…`"))
        .build();
    let api_key = ApiKeyValue::with_description("X-Api-Key", "The same key in another header");
    let schemes = &mut all.components.get_or_insert_default().security_schemes;
    schemes.insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
    schemes.insert(
        API_KEY.to_owned(),
        SecurityScheme::ApiKey(ApiKey::Header(api_key)).into(),
    );
    all
}

fn license() -> utoipa::openapi::License {
    LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"))
        .build()
}

fn tag((name, description): (&str, &str)) -> Tag {
    let mut tag = Tag::new(name);
    tag.description = Some(description.to_owned());
    tag
}
