//! Forwards GHL's webhooks to the caller's endpoints.

use std::sync::Arc;

use ghl::webhook::Event;
use http::HeaderMap;
use store::LocationId;
use store_writer::outbox::Subject;

use crate::Broker;
use crate::api::error::Error;
use crate::apps::App;
use crate::events::endpoint;
use crate::events::message::StoredWebhook;

/// Stores a signed webhook for the endpoints that want it, before the broker handles it. So none is lost. If the
/// handling fails, GHL sends the webhook again, and it is forwarded again.
///
/// # Errors
/// When the store is unavailable.
pub(super) async fn forward(
    broker: &Broker,
    event: &Event,
    accepting: &[&Arc<App>],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Error> {
    let location = event.location_id.as_deref();
    let owner = location.or(event.company_id.as_deref());
    let location: Option<LocationId> = location.and_then(|id| id.parse().ok());
    let endpoints = broker.0.deliveries.wanting(&endpoint::Subject::Webhook {
        webhook_type: event.kind.as_deref(),
        location: location.as_ref(),
    });
    if endpoints.is_empty() || !is_ours(broker, event, accepting, owner).await? {
        return Ok(());
    }
    let subject = Subject::named(owner.unwrap_or("ghl"));
    // A `.` separates what is signed.
    let id = event.identity.replace('.', "_");
    let now = broker.0.reader.now();
    let message = StoredWebhook::new(id, headers, body, now).to_json();
    let writer = &broker.0.writer;
    Ok(writer.publish(&subject, message, endpoints).await?)
}

/// Whether the webhook is about an app or an account of this broker. GHL signs for all apps with one key, so anybody
/// can get a signed webhook about an account of their own. A webhook that names neither counts as ours.
async fn is_ours(
    broker: &Broker,
    event: &Event,
    accepting: &[&Arc<App>],
    owner: Option<&str>,
) -> Result<bool, Error> {
    if let Some(app) = event.app_id.as_deref() {
        return Ok(accepting.iter().any(|its| its.is_at_ghl(app)));
    }
    match owner {
        Some(name) if name.parse::<LocationId>().is_ok() => {
            Ok(!broker.0.writer.resolve(name).await?.is_empty())
        }
        Some(_) => Ok(false),
        None => Ok(true),
    }
}
