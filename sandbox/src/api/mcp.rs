//! `/mcp/`: the Model Context Protocol over streamable HTTP, with two of GHL's tools.
//!
//! `initialize` begins a session of the token's location. Messages are answered with JSON, and calls of tools with a
//! stream of one event. `GET` opens a stream with a notification for each call of a tool in the session; with
//! `Last-Event-ID` it goes on after that event.

mod sessions;
mod tools;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

pub(crate) use sessions::McpSessions;

use super::Caller;
use super::caller::{no_access, wrong_class};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::JsonObject;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Newest first.
const VERSIONS: [&str; 3] = ["2025-06-18", "2025-03-26", "2024-11-05"];

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// JSON-RPC's codes.
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// A JSON-RPC error.
struct Failure(i32, String);

/// `POST /mcp/`
pub(super) async fn message(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    message: JsonObject,
) -> Result<Response, ApiError> {
    let location = location(&caller, &headers)?;
    accepts(&headers, &[JSON, EVENTS])?;
    let JsonObject(message) = message;
    let (method, id) = (message.get("method"), message.get("id"));
    let method = method.and_then(Value::as_str);
    if method == Some("initialize") {
        let session = app.ids.hex(32);
        app.world().mcp.begin(&session, location);
        let answer = result(id, &Ok(initialized(&message)));
        let mut response = Json(answer).into_response();
        if let Ok(session) = HeaderValue::try_from(session) {
            response.headers_mut().insert(SESSION, session);
        }
        return Ok(response);
    }
    let session = session_of(&app, &headers, location)?;
    let (Some(method), Some(id)) = (method, id) else {
        // A notification, or a response to the server.
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    let params = message.get("params").and_then(Value::as_object);
    let answer = match method {
        "ping" | "logging/setLevel" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools::list()})),
        "tools/call" => {
            let outcome = tools::call(&app, &caller, params);
            let name = params.and_then(|params| params.get("name"));
            let answer = result(Some(id), &outcome);
            let params = json!({"level": "info", "logger": "tools", "data": name});
            let notification =
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
            app.world().mcp.notify(&session, &notification);
            return Ok(events(Body::from(format!(
                "event: message\ndata: {answer}\n\n"
            ))));
        }
        _ => Err(Failure(METHOD_NOT_FOUND, "Method not found".to_owned())),
    };
    Ok(Json(result(Some(id), &answer)).into_response())
}

/// `GET /mcp/`
pub(super) async fn listen(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let location = location(&caller, &headers)?;
    accepts(&headers, &[EVENTS])?;
    let session = session_of(&app, &headers, location)?;
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse::<usize>().ok());
    let listener = app.world().mcp.listen(&session);
    let listener = listener.ok_or_else(|| ApiError::not_found("Session not found"))?;
    let first = last.unwrap_or_else(|| listener.borrow().len());
    let open = stream::once(async { Ok::<_, Infallible>(": open\n\n".to_owned()) });
    let later = stream::unfold((listener, first), async |(mut listener, sent)| {
        // It ends with the session.
        let events = listener.wait_for(|events| events.len() > sent).await.ok()?;
        let event = format!(
            "event: message\nid: {}\ndata: {}\n\n",
            sent + 1,
            events[sent]
        );
        drop(events);
        Some((Ok(event), (listener, sent + 1)))
    });
    let body = futures_util::StreamExt::chain(open, later);
    Ok(events(Body::from_stream(body)))
}

/// `DELETE /mcp/`
pub(super) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let location = location(&caller, &headers)?;
    let session = session_of(&app, &headers, location)?;
    app.world().mcp.end(&session);
    Ok(StatusCode::NO_CONTENT)
}

/// The location of the token, if the header names it.
fn location<'c>(caller: &'c Caller, headers: &HeaderMap) -> Result<&'c str, ApiError> {
    let own = caller.subject().location().ok_or_else(wrong_class)?;
    match headers.get(ghl::mcp::LOCATION) {
        None => Err(ApiError::bad_request("locationId header is required")),
        Some(named) if named.as_bytes() == own.as_bytes() => Ok(own),
        Some(_) => Err(no_access()),
    }
}

/// The id of a session of this location.
fn session_of(app: &App, headers: &HeaderMap, location: &str) -> Result<String, ApiError> {
    if let Some(version) = headers.get(VERSION)
        && !VERSIONS.iter().any(|known| version == known)
    {
        return Err(ApiError::bad_request("Unsupported protocol version"));
    }
    let id = headers.get(SESSION).and_then(|id| id.to_str().ok());
    let id = id.ok_or_else(|| ApiError::bad_request("Mcp-Session-Id header is required"))?;
    match app.world().mcp.is_of(id, location) {
        true => Ok(id.to_owned()),
        false => Err(ApiError::not_found("Session not found")),
    }
}

fn accepts(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted: Vec<_> = accepted
        .filter_map(|accepted| accepted.to_str().ok())
        .collect();
    let accepted = accepted.join(",");
    match types.iter().all(|wanted| accepted.contains(wanted)) {
        true => Ok(()),
        false => {
            let message = format!("Client must accept {}", types.join(" and "));
            Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, &message))
        }
    }
}

/// The server's answer to `initialize`.
fn initialized(message: &Map<String, Value>) -> Value {
    let wanted = message
        .get("params")
        .and_then(|it| it["protocolVersion"].as_str());
    let version = wanted.filter(|wanted| VERSIONS.contains(wanted));
    json!({
        "protocolVersion": version.unwrap_or(VERSIONS[0]),
        "capabilities": {"tools": {}, "logging": {}},
        "serverInfo": {"name": "sandbox", "version": env!("CARGO_PKG_VERSION")},
    })
}

/// A JSON-RPC response.
fn result(id: Option<&Value>, outcome: &Result<Value, Failure>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Failure(code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

fn events(body: Body) -> Response {
    let mut response = Response::new(body);
    let events = HeaderValue::from_static(EVENTS);
    response.headers_mut().insert(CONTENT_TYPE, events);
    response
}
