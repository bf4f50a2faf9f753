//! Webhooks on request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parse;
use crate::app::App;
use crate::directory::COMPANY;
use crate::error::ApiError;
use crate::subject::Subject;
use crate::webhooks::{Event, Kind};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "type")]
    kind: Kind,
    location_id: Option<String>,
    company_id: Option<String>,
    /// One of the sandbox's apps. The default app if absent.
    app_id: Option<String>,
    webhook_id: Option<String>,
    timestamp: Option<String>,
    /// Fields of the body that replace the generated ones. `null` leaves a field out.
    #[serde(default)]
    fields: Map<String, Value>,
}

/// `GET /_sandbox/webhooks`: those that were sent, oldest first.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<Value>> {
    Json(app.world().webhooks.shown())
}

/// `POST /_sandbox/webhooks`: sends a webhook once. Responds with its body and with the status that the
/// receiver returned.
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let webhook: Webhook = parse(&body)?;
    let client = match &webhook.app_id {
        None => app.apps.default_client(),
        Some(id) => app
            .apps
            .client_of(id)
            .ok_or_else(|| ApiError::invalid(["appId must be that of a known app"]))?,
    };
    let company = webhook.company_id.as_deref();
    let (subject, user) = {
        let mut world = app.world();
        let subject = match (webhook.location_id, company) {
            (Some(location), company) => {
                let company = company.unwrap_or(COMPANY).into();
                world.directory.open(&location, &company).subject()
            }
            (None, Some(company)) => Subject::Company {
                company: company.into(),
            },
            (None, None) => return Err(ApiError::invalid(["locationId or companyId is needed"])),
        };
        let app_id = crate::apps::app_id(client);
        let consent = world.installations.agency(app_id, subject.company());
        let grants = world.grants.of(subject.id());
        let own = grants.filter(|(_, grant)| grant.identity.app() == app_id);
        let own = own
            .last()
            .map(|(_, grant)| grant.identity.consented_grant());
        let user = own.or_else(|| consent.map(|consent| consent.grant));
        (subject, user)
    };
    let event = Event {
        user,
        id: webhook.webhook_id,
        timestamp: webhook.timestamp,
        fields: webhook.fields,
        ..Event::new(webhook.kind, client.clone(), subject)
    };
    report(app.deliver(&event).await)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resend {
    webhook_id: String,
}

/// `POST /_sandbox/webhooks/resend`: sends the original body again, once.
pub(crate) async fn resend(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let resend: Resend = parse(&body)?;
    match app.resend(&resend.webhook_id).await {
        Some(result) => report(result),
        None => Err(ApiError::not_found("No such webhook was sent")),
    }
}

fn report(result: Result<(Value, u16), String>) -> Result<Json<Value>, ApiError> {
    let (sent, status) =
        result.map_err(|problem| ApiError::new(StatusCode::BAD_GATEWAY, &problem))?;
    Ok(Json(json!({"sent": sent, "status": status})))
}
