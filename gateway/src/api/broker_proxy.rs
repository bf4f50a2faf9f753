//! Forwards the broker's routes to the broker.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, header};
use http_body::Body as _;
use store::Scope;
use tracing::Span;

use super::state::Api;
use crate::error::Error;
use crate::upstream::body::{BodyError, Outgoing};
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;

/// Tells the broker the public origin, since `Host` names the broker on its connection.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `/oauth/install` and `/oauth/callback`. Customers follow links to them from anywhere.
pub(crate) async fn consent(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check_link(&parts)?;
    to_broker(&api, parts, body).await
}

/// `GET /api/oauth/status`. The broker checks for which installations the key is.
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check(&parts)?;
    api.pipeline.authenticate(&parts, Scope::Proxy).await?;
    to_broker(&api, parts, body).await
}

/// `POST /webhooks/ghl`
pub(crate) async fn webhook(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    api.own_hosts.check(&parts)?;
    to_broker(&api, parts, body).await
}

/// Streams the request to the broker and the response back. Redirects are not followed.
async fn to_broker(api: &Api, mut parts: Parts, body: Body) -> Result<Response, Error> {
    let limit = api.pipeline.config.max_body_bytes;
    if body.size_hint().lower() > limit {
        return Err(BodyError::TooLarge { limit }.into());
    }
    if let Some(host) = parts.headers.remove(header::HOST) {
        parts.headers.entry(FORWARDED_HOST).or_insert(host);
    }
    parts.headers.remove(header::EXPECT);
    service::trace::inject(&Span::current(), &mut parts.headers);
    let body = if body.is_end_stream() {
        Outgoing::empty()
    } else {
        Outgoing::stream(body, limit)
    };
    let request = Outbound {
        method: &parts.method,
        uri: &api.broker.base.uri_as_is(&parts.uri)?,
        headers: OutboundHeaders::ToBroker(&parts.headers),
    };
    Ok(api.broker.send(request, body).await?)
}
