//! Forwards the broker's routes to the broker.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use http_body::Body as _;
use service::client_address::FORWARDED_FOR;
use service::handler::Peer;
use service::origin::OwnHosts;
use service::receive::{ReceiveError, Received};
use service::root::accepts_html;
use store::audit::{Happened, Refusal};

use super::state::Api;
use crate::error::Error;
use crate::request::caller::{AuthenticatedCaller, Permission};
use crate::upstream::body::Outgoing;
use crate::upstream::headers::{OutboundHeaders, strip_hop_by_hop};
use crate::upstream::outbound::Outbound;

/// Tells the broker the public origin, since `Host` names the broker on its connection.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The largest body of a request that needs none, in bytes.
const SMALL_BYTES: u64 = 8 * 1024;

/// The largest webhook, in bytes.
const WEBHOOK_BYTES: u64 = 256 * 1024;

/// The largest body of a backend, in bytes. Brokers take no larger one either.
const CONNECT_BYTES: u64 = 64 * 1024;

/// The routes of a consent.
pub(crate) const CONSENTS: [&str; 6] = [
    "/oauth/install",
    "/oauth/result/{outcome}",
    "/connect/{token}",
    "/oauth/callback",
    "/oauth/callback/{app}",
    "/api/oauth/callback",
];

/// Whether a browser asks for one of [`CONSENTS`].
pub(crate) fn is_for_customer(request: &Request) -> bool {
    let path = request.uri().path();
    let is_consent = CONSENTS.iter().any(|route| match route.split_once('{') {
        Some((prefix, _)) => path.starts_with(prefix),
        None => path == *route,
    });
    is_consent && accepts_html(request.headers())
}

/// The state of an installation.
pub(crate) const STATUS: &str = "/api/oauth/status";

/// GHL's webhooks.
pub(crate) const WEBHOOK: &str = "/webhooks/ghl";

/// One of [`CONSENTS`]. Customers follow links to them from anywhere.
pub(crate) async fn consent(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check_link(&parts)?;
    let client = client(&api, &parts);
    api.anonymous.count(client)?;
    let body = api.anonymous.receive(body, SMALL_BYTES, client).await?;
    to_broker(&api, parts, client, body).await
}

/// [`STATUS`]. The broker checks for which installations the key is.
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    // A page of a listed origin needs a key, as others do.
    if api
        .pipeline
        .config
        .cors_origins
        .has_origin_of(&parts.headers)
    {
        api.own_hosts.check_host(&parts)?;
    } else {
        api.own_hosts.check(&parts)?;
    }
    let client = client(&api, &parts);
    match api.pipeline.authenticate(&parts, Permission::Proxy).await? {
        AuthenticatedCaller::Anonymous => api.anonymous.count(client)?,
        AuthenticatedCaller::Caller(..) | AuthenticatedCaller::Browser(_) => {}
    }
    let body = api.anonymous.receive(body, SMALL_BYTES, client).await?;
    to_broker(&api, parts, client, body).await
}

/// A webhook counts against its address until the broker has accepted it, so that a caller that
/// breaks off is counted, too.
pub(crate) async fn webhook(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check(&parts)?;
    let client = client(&api, &parts);
    api.anonymous.count_webhook(client)?;
    let response = forward_webhook(&api, parts, client, body).await?;
    if response.status().is_success() {
        api.anonymous.refund_webhook(client);
    }
    Ok(response)
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
    let body = api.anonymous.receive(body, WEBHOOK_BYTES, client).await?;
    to_broker(api, parts, client, body).await
}

/// The routes of brokers for the backends of apps. A broker checks the key.
pub(crate) const CONNECT: [&str; 4] = [
    "/v1/browser-keys",
    "/v1/connect-links",
    "/v1/installations/{name}/reconnect-link",
    "/v1/sso/decrypt",
];

/// One of [`CONNECT`]. `own_hosts`: the names of the internal listener.
pub(crate) async fn connect(
    api: Arc<Api>,
    request: Request,
    own_hosts: &OwnHosts,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    if let Err(foreign) = own_hosts.check(&parts) {
        let refused = Happened::ConnectRefused(Refusal::ForeignPage);
        let pipeline = &api.pipeline;
        pipeline
            .note_refused(pipeline.asking(&parts), refused)
            .await;
        return Err(foreign.into());
    }
    let client = client(&api, &parts);
    let body = api.anonymous.receive(body, CONNECT_BYTES, client).await?;
    to_broker(&api, parts, client, body).await
}

fn client(api: &Api, parts: &Parts) -> IpAddr {
    api.anonymous
        .address(Peer::of(&parts.extensions), &parts.headers)
}

/// Sends the request to the broker, and streams the response back. Redirects are not followed.
async fn to_broker(
    api: &Api,
    mut parts: Parts,
    client: IpAddr,
    body: Received,
) -> Result<Response, Error> {
    // Before our own are added: `Connection` may name them.
    strip_hop_by_hop(&mut parts.headers);
    if let Some(host) = parts.headers.remove(header::HOST) {
        parts.headers.entry(FORWARDED_HOST).or_insert(host);
    }
    // They were checked here, against the names under which callers know this process.
    for checked in [header::EXPECT, header::ORIGIN, SEC_FETCH_SITE] {
        parts.headers.remove(checked);
    }
    // The caller may have written any address there.
    if let Ok(client) = HeaderValue::try_from(client.to_string()) {
        parts.headers.insert(FORWARDED_FOR, client);
    }
    let request = Outbound {
        method: &parts.method,
        uri: &api.broker.base.uri_as_is(&parts.uri)?,
        headers: OutboundHeaders::ToBroker(&parts.headers),
    };
    let sent = Outgoing::Held(body.bytes.clone());
    Ok(api.broker.send(request, sent).await?)
}
