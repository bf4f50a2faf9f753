//! Forwards the broker's routes to the broker.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, header};
use http_body::Body as _;
use tracing::Span;

use super::state::Api;
use crate::error::Error;
use crate::upstream::body::{BodyError, Outgoing};
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;

/// Tells the broker the public origin, since `Host` names the broker on its connection.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Streams the request to the broker and the response back. Redirects are not followed.
pub(crate) async fn to_broker(api: Arc<Api>, request: Request) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
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
