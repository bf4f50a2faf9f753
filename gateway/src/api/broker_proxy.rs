//! Forwards the broker's routes to the broker.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use http_body::Body as _;
use service::client_address::FORWARDED_FOR;
use service::handler::Peer;
use service::receive::{ReceiveError, Received};
use store::Scope;
use tracing::Span;

use super::state::Api;
use crate::error::Error;
use crate::request::caller::AuthenticatedCaller;
use crate::upstream::body::Outgoing;
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;

/// Tells the broker the public origin, since `Host` names the broker on its connection.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The largest body of a request that needs none, in bytes.
const SMALL_BYTES: u64 = 8 * 1024;

/// The largest webhook, in bytes.
const WEBHOOK_BYTES: u64 = 256 * 1024;

/// `/oauth/install` and `/oauth/callback`. Customers follow links to them from anywhere.
pub(crate) async fn consent(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check_link(&parts)?;
    let client = client(&api, &parts);
    api.anonymous.count(client)?;
    let body = api.anonymous.receive(body, SMALL_BYTES).await?;
    to_broker(&api, parts, client, body).await
}

/// `GET /api/oauth/status`. The broker checks for which installations the key is.
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check(&parts)?;
    let client = client(&api, &parts);
    match api.pipeline.authenticate(&parts, Scope::Proxy).await? {
        AuthenticatedCaller::Anonymous => api.anonymous.count(client)?,
        AuthenticatedCaller::Caller(..) => {}
    }
    let body = api.anonymous.receive(body, SMALL_BYTES).await?;
    to_broker(&api, parts, client, body).await
}

/// `POST /webhooks/ghl`. GHL sends many, so only those that are refused count against their address.
pub(crate) async fn webhook(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check(&parts)?;
    let client = client(&api, &parts);
    api.anonymous.check(client)?;
    let answered = forward_webhook(&api, parts, client, body).await;
    let is_refused = match &answered {
        Ok(response) => response.status().is_client_error(),
        Err(error) => error.status().is_client_error(),
    };
    if is_refused {
        // It has its answer already.
        let _ = api.anonymous.count(client);
    }
    answered
}

async fn forward_webhook(
    api: &Api,
    parts: Parts,
    client: IpAddr,
    body: Body,
) -> Result<Response, Error> {
    if body.size_hint().lower() > WEBHOOK_BYTES {
        return Err(ReceiveError::TooLarge(WEBHOOK_BYTES).into());
    }
    if !ghl::webhook::is_signed(&parts.headers) {
        return Err(Error::Unsigned);
    }
    let body = api.anonymous.receive(body, WEBHOOK_BYTES).await?;
    to_broker(api, parts, client, body).await
}

fn client(api: &Api, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    // A request has it, except in unit tests.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    api.anonymous.address(peer, &parts.headers)
}

/// Sends the request to the broker, and streams the response back. Redirects are not followed.
async fn to_broker(
    api: &Api,
    mut parts: Parts,
    client: IpAddr,
    body: Received,
) -> Result<Response, Error> {
    if let Some(host) = parts.headers.remove(header::HOST) {
        parts.headers.entry(FORWARDED_HOST).or_insert(host);
    }
    parts.headers.remove(header::EXPECT);
    // What the caller wrote there is not believed.
    if let Ok(client) = HeaderValue::try_from(client.to_string()) {
        parts.headers.insert(FORWARDED_FOR, client);
    }
    service::trace::inject(&Span::current(), &mut parts.headers);
    let request = Outbound {
        method: &parts.method,
        uri: &api.broker.base.uri_as_is(&parts.uri)?,
        headers: OutboundHeaders::ToBroker(&parts.headers),
    };
    let sent = Outgoing::Held(body.bytes.clone());
    Ok(api.broker.send(request, sent).await?)
}
