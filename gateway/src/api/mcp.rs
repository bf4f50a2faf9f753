//! `ANY /mcp`: GHL's MCP server, with the token and the location of the named installation.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use ghl::mcp;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use store::{LocationId, UserType};

use super::state::Api;
use crate::error::Error;
use crate::request::body::Examined;
use crate::request::caller::Permission;
use crate::request::headers::{self, is_event_stream};
use crate::request::path;
use crate::request::selector::{Call, InstallationSelectors};

const LOCATION: HeaderName = HeaderName::from_static(mcp::LOCATION);

/// Forwards a request to GHL's MCP server.
pub(crate) async fn call(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let pipeline = &api.pipeline;
    let (mut parts, body) = request.into_parts();
    let method = parts.method.clone();
    let path = ghls_path(path::checked(parts.uri.path())?).to_owned();
    let call = Call {
        method: &method,
        path: &path,
    };
    let caller = pipeline
        .authenticate(&parts, Permission::Call(call))
        .await?;
    // A message of the protocol has no field that names a location. It is held, so that it can be sent again.
    let payload = pipeline.hold(&parts, body).await?;
    let selectors = InstallationSelectors::of(&parts.headers, parts.uri.query(), Some(call))
        .with_operation(&mcp::OPERATION);
    let examined = Examined {
        held_bytes: payload.held_bytes(parts.version),
        ..Examined::default()
    };
    let token = pipeline
        .token_for(&parts, &caller, selectors, examined)
        .await?;
    let location = match token.user_type {
        UserType::Location => token.location.as_ref(),
        UserType::Company => None,
    };
    let location = location.ok_or(Error::McpWithoutLocation)?;
    name_location(&mut parts.headers, location);
    let uri = pipeline.ghl.base.uri(&path, parts.uri.query(), None)?;
    let response = pipeline
        .forward(&caller, token, parts, uri, payload)
        .await?;
    if method == Method::GET && is_event_stream(response.headers()) {
        return Ok(until_the_stop(&api, response));
    }
    Ok(response)
}

/// GHL's path for one of ours. GHL documents only the path with the slash.
fn ghls_path(path: &str) -> &str {
    match path {
        "/mcp" => mcp::PATH,
        below => below,
    }
}

/// Replaces the caller's own headers, since one of them could name the location in another way.
fn name_location(headers: &mut HeaderMap, location: &LocationId) {
    for name in headers::LOCATION {
        headers.remove(name);
    }
    // A location's id has only characters that a header can have.
    if let Ok(location) = HeaderValue::from_str(location.as_str()) {
        headers.insert(LOCATION, location);
    }
}

/// Ends a stream of notifications when the process stops, because it would delay the stop. Its client opens another
/// one.
fn until_the_stop(api: &Api, response: Response) -> Response {
    let stop = api.shutdown.clone();
    response.map(|body| {
        let events = body.into_data_stream();
        Body::from_stream(events.take_until(async move { stop.started().await }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_of_the_token_replaces_all_that_the_caller_sent() {
        let mut headers = HeaderMap::new();
        for name in headers::LOCATION {
            headers.append(name.clone(), HeaderValue::from_static("LOC9"));
            headers.append(name, HeaderValue::from_static("LOC8"));
        }
        name_location(&mut headers, &"LOC1".parse().unwrap());
        let expected = [(LOCATION, HeaderValue::from_static("LOC1"))];
        assert_eq!(headers, HeaderMap::from_iter(expected));
    }

    #[test]
    fn path_gets_the_slash_that_ghl_expects() {
        for (path, expected) in [("/mcp", "/mcp/"), ("/mcp/", "/mcp/"), ("/mcp/x", "/mcp/x")] {
            assert_eq!(ghls_path(path), expected);
        }
    }
}
