//! Shortcuts for common GHL calls, with the location filled in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use ghl::scrub::scrub;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use service::error_body::ErrorBody;
use store::UserType;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::error_response::respond;
use super::state::Api;
use crate::access_log::record::RequestRecord;
use crate::error::Error;
use crate::pipeline::{GhlRequest, Pipeline};
use crate::request::body::{Examined, Payload};
use crate::request::body_fields::BodyFields;
use crate::request::caller::{AuthenticatedCaller, Permission};
use crate::request::headers::REQUEST_ID;
use crate::request::selector::{Call, InstallationSelectors};
use crate::request::{headers, json, query};
use crate::token::sources::Token;
use crate::upstream::body::{Outgoing, read};
use crate::upstream::headers::VERSION;

/// A product or a contact has a few kilobytes.
const CREATE_BYTES: u64 = 1024 * 1024;

/// Paths of GHL.
const PRODUCTS: &str = "/products/";
const CONTACTS: &str = "/contacts/";
const UPLOAD: &str = "/medias/upload-file";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Headers that name an installation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "it is only documented: `InstallationSelectors` reads them"
)]
struct SelectorHeaders {
    /// The installation: its id, its location or its company. `docs/http.md` lists other ways to name it
    #[param(rename = "X-Installation-Id")]
    installation: Option<String>,
    /// The app, if the location or company has several
    #[param(rename = "X-Evergreen-App")]
    app: Option<String>,
}

/// Parameters of the query that name an installation.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it is only documented: `InstallationSelectors` reads them"
)]
struct SelectorQuery {
    /// As `X-Installation-Id`, in the query
    #[param(rename = "installation_id")]
    installation: Option<String>,
    /// The location
    #[param(rename = "locationId")]
    location: Option<String>,
}

/// List the products of a location
///
/// As `GET /ghl/products/`, with the location filled in.
#[utoipa::path(get, path = "/api/ghl/products", operation_id = "listProducts", params(SelectorHeaders, SelectorQuery), responses(
    (status = 200, description = "GHL's list"),
    (status = "default", description = "Otherwise the answer of GHL passes as it is"),
))]
pub(crate) async fn products(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let pipeline = &api.pipeline;
    let (parts, _) = request.into_parts();
    let call = Call {
        method: &Method::GET,
        path: PRODUCTS,
    };
    let needed = Permission::Call(call);
    let (caller, token) = caller_and_token(pipeline, &parts, needed, Some(call)).await?;
    let location = match query::value(parts.uri.query(), "locationId") {
        Some(_) => None,
        None => Some(token.location.as_ref().ok_or(Error::NoLocation)?.as_str()),
    };
    let uri = pipeline
        .ghl
        .base
        .uri(PRODUCTS, parts.uri.query(), location)?;
    pipeline
        .forward(&caller, token, parts, uri, Payload::Held(Bytes::new()))
        .await
}

/// Create a product
///
/// As `POST /ghl/products/`, with the location filled in.
#[utoipa::path(post, path = "/api/ghl/products/create", operation_id = "createProduct", request_body(
    content = Object, description = "As GHL documents it. `locationId` may be absent",
), params(SelectorHeaders, SelectorQuery), responses(
    (status = 201, description = "GHL's product"),
    (status = "default", description = "Otherwise the answer of GHL passes as it is"),
))]
pub(crate) async fn create_product(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    create(&api.pipeline, parts, body, PRODUCTS, with_location).await
}

/// Create a contact
///
/// As `POST /ghl/contacts/`, with the location filled in.
#[utoipa::path(post, path = "/api/ghl/contacts/create", operation_id = "createContact", request_body(
    content = Object, description = "As GHL documents it. `locationId` may be absent",
), params(SelectorHeaders, SelectorQuery), responses(
    (status = 201, description = "GHL's contact"),
    (status = "default", description = "Otherwise the answer of GHL passes as it is"),
))]
pub(crate) async fn create_contact(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    create(&api.pipeline, parts, body, CONTACTS, with_location).await
}

/// Create a product to try evergreen out
///
/// The body is optional, and its members are kept.
#[utoipa::path(post, path = "/api/ghl/test-product", operation_id = "createTestProduct", request_body(
    content = Option<Value>, description = "Members of the product",
), params(SelectorHeaders, SelectorQuery), responses(
    (status = 201, description = "GHL's product"),
    (status = "default", description = "Otherwise the answer of GHL passes as it is"),
))]
pub(crate) async fn test_product(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let name = format!("evergreen test product {}", api.pipeline.tokens.now());
    create(&api.pipeline, parts, body, PRODUCTS, |body, location| {
        let empty = Bytes::from_static(b"{}");
        let body = if body.is_empty() { &empty } else { body };
        let defaults = [
            ("name", name.as_str()),
            ("locationId", location),
            ("productType", "DIGITAL"),
        ];
        json::with_defaults(body, defaults)
    })
    .await
}

/// Upload a file
///
/// As `POST /ghl/medias/upload-file`. The body streams to GHL, which takes the location from the token.
#[utoipa::path(post, path = "/api/ghl/medias/upload-file", operation_id = "uploadFile", request_body(
    content = Object, content_type = "multipart/form-data", description = "As GHL documents it",
), params(SelectorHeaders, SelectorQuery), responses(
    (status = 200, description = "GHL's file"),
    (status = "default", description = "Otherwise the answer of GHL passes as it is"),
))]
pub(crate) async fn upload_file(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let pipeline = &api.pipeline;
    let (parts, body) = request.into_parts();
    let call = Call {
        method: &Method::POST,
        path: UPLOAD,
    };
    let caller = pipeline
        .authenticate(&parts, Permission::Call(call))
        .await?;
    let selectors = InstallationSelectors::of(&parts.headers, parts.uri.query(), Some(call));
    let payload = pipeline.take(&parts, body, &caller, &selectors).await?;
    let examined = payload.examine(&parts);
    let token = pipeline
        .token_for(&parts, &caller, selectors, examined)
        .await?;
    let query = parts.uri.query();
    let uri = pipeline.ghl.base.uri(UPLOAD, query, None)?;
    pipeline.forward(&caller, token, parts, uri, payload).await
}

/// Test the connection of an installation
///
/// Checks that GHL accepts its token.
#[utoipa::path(get, path = "/api/ghl/test-connection", operation_id = "testConnection", params(SelectorHeaders, SelectorQuery), responses(
    (status = 200, description = "GHL accepts the token", body = Report),
    (status = 502, description = "GHL does not, or could not be reached", body = NotConnected),
))]
pub(crate) async fn test_connection(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let pipeline = &api.pipeline;
    let (parts, _) = request.into_parts();
    // Every key that may proxy may make this call, since it reveals nothing of GHL's data.
    let (caller, token) = caller_and_token(pipeline, &parts, Permission::Proxy, None).await?;
    let request = GhlRequest {
        method: Method::GET,
        uri: own_uri(pipeline, &token)?,
        headers: plain_headers(&parts),
        admission: pipeline.admission_request(&caller, &parts.headers, 0)?,
        share: caller.share(),
        record: RequestRecord::of(&parts.extensions).cloned(),
    };
    let asked = Instant::now();
    let call = pipeline.call(Arc::clone(&token), request, Outgoing::empty());
    let answer = call.await?;
    let latency = asked.elapsed();
    let status = answer.status();
    let message = if status.is_success() {
        None
    } else {
        let message = message_of(answer.into_body(), pipeline).await;
        message.map(|message| without_token(message, &token.secret()))
    };
    let report = Report {
        ok: status.is_success(),
        status: status.as_u16(),
        installation_id: token.id.to_string(),
        user_type: token.user_type.as_str(),
        location_id: token.location.as_ref().map(ToString::to_string),
        company_id: token.company.as_ref().map(ToString::to_string),
        latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        message,
    };
    let status = if report.ok {
        StatusCode::OK
    } else {
        StatusCode::BAD_GATEWAY
    };
    Ok(respond(status, &report))
}

/// The caller of a request whose body is not examined, and the token of its installation.
async fn caller_and_token(
    pipeline: &Pipeline,
    parts: &Parts,
    needed: Permission<'_>,
    call: Option<Call<'_>>,
) -> Result<(AuthenticatedCaller, Arc<Token>), Error> {
    let caller = pipeline.authenticate(parts, needed).await?;
    let selectors = InstallationSelectors::of(&parts.headers, parts.uri.query(), call);
    let no_body = Examined::default();
    let token = pipeline
        .token_for(parts, &caller, selectors, no_body)
        .await?;
    Ok((caller, token))
}

/// The result of a test.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectionTest)]
struct Report {
    /// Whether GHL accepts the token.
    ok: bool,
    /// The status of GHL's response.
    status: u16,
    installation_id: String,
    /// `Location` or `Company`.
    #[schema(value_type = String)]
    user_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_id: Option<String>,
    latency_ms: u64,
    /// GHL's message, if it refuses the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
}

/// A test that failed. GHL refused the token, or there was no answer.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it is only documented: the two are sent in different places"
)]
enum NotConnected {
    Refused(Report),
    NotReached(ErrorBody),
}

/// Posts a JSON object to GHL. `complete` adds the members that the caller left out.
async fn create(
    pipeline: &Pipeline,
    mut parts: Parts,
    body: Body,
    path: &'static str,
    complete: impl FnOnce(&Bytes, &str) -> Result<Bytes, json::NotAnObject>,
) -> Result<Response, Error> {
    let call = Call {
        method: &Method::POST,
        path,
    };
    let caller = pipeline
        .authenticate(&parts, Permission::Call(call))
        .await?;
    let limit = pipeline.limits.max_body_bytes().min(CREATE_BYTES);
    let body = read(body, limit, pipeline.config.response_timeout).await?;
    // A web page of somebody else can send any other type without asking the browser.
    if !body.is_empty() && !headers::is_json(&parts.headers) {
        return Err(Error::ContentType);
    }
    let selectors = InstallationSelectors::of(&parts.headers, parts.uri.query(), Some(call));
    let selectors = selectors.with_body(&BodyFields::Json((&body[..]).into()));
    let named = selectors.location().map(str::to_owned);
    let examined = Examined {
        held_bytes: body.len(),
        ..Examined::default()
    };
    let token = pipeline
        .token_for(&parts, &caller, selectors, examined)
        .await?;
    // An agency's token belongs to no location, so the request has to name one.
    let own = token.location.as_ref().map(|id| id.as_str());
    let location = own.or(named.as_deref()).ok_or(Error::NoLocation)?;
    let completed = complete(&body, location)?;
    let uri = pipeline.ghl.base.uri(path, parts.uri.query(), None)?;
    parts.headers.insert(CONTENT_TYPE, JSON);
    pipeline
        .forward(&caller, token, parts, uri, Payload::Held(completed))
        .await
}

fn with_location(body: &Bytes, location: &str) -> Result<Bytes, json::NotAnObject> {
    json::with_defaults(body, [("locationId", location)])
}

/// A route that a token of its kind may read with the scope `locations.readonly`.
fn own_uri(pipeline: &Pipeline, token: &Token) -> Result<Uri, Error> {
    let base = &pipeline.ghl.base;
    let uri = match (token.user_type, &token.location, &token.company) {
        (UserType::Location, Some(id), _) => base.uri(&format!("/locations/{id}"), None, None),
        (UserType::Company, _, Some(id)) => {
            let query = format!("companyId={id}&limit=1");
            base.uri("/locations/search", Some(&query), None)
        }
        (UserType::Location, None, _) | (UserType::Company, _, None) => {
            return Err(Error::NothingToTest);
        }
    };
    Ok(uri?)
}

/// The caller's headers are about the gateway's response, not about GHL's.
fn plain_headers(parts: &Parts) -> HeaderMap {
    let mut plain = HeaderMap::new();
    plain.insert(ACCEPT, JSON);
    for name in [REQUEST_ID, VERSION] {
        if let Some(value) = parts.headers.get(&name) {
            plain.insert(name, value.clone());
        }
    }
    plain
}

/// GHL's message, which may repeat what it was sent.
fn without_token(message: Value, token: &SecretString) -> Value {
    match message {
        Value::String(text) => Value::String(scrub(&text, std::iter::once(token))),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| without_token(item, token));
            Value::Array(items.collect())
        }
        Value::Object(members) => {
            let members = members.into_iter();
            Value::Object(
                members
                    .map(|(name, it)| (name, without_token(it, token)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => message,
    }
}

async fn message_of(body: Body, pipeline: &Pipeline) -> Option<Value> {
    let body = read(body, 64 * 1024, pipeline.config.response_timeout)
        .await
        .ok()?;
    let mut body: Value = serde_json::from_slice(&body).ok()?;
    Some(body.get_mut("message")?.take())
}
