//! Announces events to the apps by webhook.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use crate::app::App;
use crate::apps::{app_id, version_id};
use crate::clock::iso;
use crate::oauth::token_response::user_id;
use crate::webhooks::{Event, Kind, RETRIES};

/// A webhook as it is sent, and sent again.
#[derive(Clone, Debug)]
struct Payload {
    id: String,
    body: Bytes,
}

impl App {
    /// Sends events in the background if a webhook URL is set. An event that is not answered with 2xx is
    /// retried.
    pub(crate) fn announce(self: &Arc<Self>, mut events: Vec<Event>) {
        if !self.webhooks.is_enabled() {
            return;
        }
        let now = iso(self.clock.now_ms());
        for event in &mut events {
            event.timestamp.get_or_insert_with(|| now.clone());
        }
        let app = self.clone();
        tokio::spawn(async move {
            for event in events {
                let Some(slot) = app.webhooks.slot().await else {
                    return;
                };
                let (payload, _) = app.payload(&event);
                tokio::spawn(app.clone().deliver_with_retries(payload, slot));
            }
        });
    }

    /// Sends an event once. Returns its body and the status of the response.
    pub(crate) async fn deliver(&self, event: &Event) -> Result<(Value, u16), String> {
        let (payload, body) = self.payload(event);
        let status = self.attempt(&payload).await?;
        Ok((body, status))
    }

    /// Sends the original body of an earlier event again. `None` if it is unknown.
    pub(crate) async fn resend(&self, id: &str) -> Option<Result<(Value, u16), String>> {
        let body = self.world().webhooks.body(id)?;
        let sent = serde_json::from_slice(&body).unwrap_or_default();
        let payload = Payload {
            id: id.to_owned(),
            body,
        };
        Some(self.attempt(&payload).await.map(|status| (sent, status)))
    }

    async fn deliver_with_retries(self: Arc<Self>, payload: Payload, slot: OwnedSemaphorePermit) {
        let mut slot = Some(slot);
        for retry in 0..=RETRIES {
            if retry > 0 {
                let pause_ms = self.world().settings.webhook_retry_pause_ms;
                let pause_ms = pause_ms.saturating_mul(u64::from(retry));
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                slot = self.webhooks.slot().await;
            }
            let status = self.attempt(&payload).await;
            // Others may send during the pause.
            drop(slot.take());
            match status {
                Ok(200..300) => return,
                Ok(status) => warn!(status, retry, "webhook was refused"),
                Err(error) => warn!(error, retry, "webhook was not delivered"),
            }
        }
        self.world().webhooks.abandoned();
    }

    async fn attempt(&self, payload: &Payload) -> Result<u16, String> {
        let status = self.webhooks.send(payload.body.clone()).await;
        let answered = status.as_ref().ok().copied();
        self.world().webhooks.attempted(&payload.id, answered);
        status
    }

    fn payload(&self, event: &Event) -> (Payload, Value) {
        let id = event.id.clone().unwrap_or_else(|| self.ids.uuid());
        let body = self.body(event, &id);
        let payload = Payload {
            id,
            body: body.to_string().into(),
        };
        let kept = payload.clone();
        self.world().webhooks.keep(kept.id, kept.body);
        (payload, body)
    }

    fn body(&self, event: &Event, id: &str) -> Value {
        let app = app_id(&event.client);
        let now = || iso(self.clock.now_ms());
        let timestamp = event.timestamp.clone().unwrap_or_else(now);
        let company = event.subject.company();
        let world = self.world();
        let settings = world.settings;
        let mut body = json!({
            "type": event.kind,
            "appId": app,
            "companyId": **company,
            "timestamp": timestamp,
            "webhookId": id,
        });
        if let Some(location) = event.subject.location() {
            body["locationId"] = json!(**location);
        }
        if event.kind != Kind::Uninstall {
            body["versionId"] = json!(version_id(app));
            body["userId"] = json!(event.user.map(user_id));
        }
        match event.kind {
            Kind::Install => {
                body["installType"] = json!(event.subject.user_type());
                body["companyName"] = json!(world.directory.company_name(company));
                body["planId"] = json!(PLAN);
                body["trial"] = json!({"onTrial": false, "trialDuration": 0});
                body["isWhitelabelCompany"] = json!(false);
                body["whitelabelDetails"] = json!({});
            }
            Kind::Update => body["previousVersionId"] = json!(version_id("an earlier version")),
            Kind::PlanChange => {
                body["currentPlanId"] = json!(PLAN);
                body["newPlanId"] = json!(OTHER_PLAN);
            }
            Kind::Uninstall => {}
        }
        drop(world);
        if let Value::Object(fields) = &mut body {
            if event.kind == Kind::Uninstall && event.subject.location().is_some() {
                // GHL's documents show either `locationId` or `companyId`.
                fields.remove("companyId");
            }
            fields.extend(event.fields.clone());
            if settings.webhook_without_company_id {
                fields.remove("companyId");
            }
            if settings.webhook_without_user_id {
                fields.remove("userId");
            }
            fields.retain(|_, value| !value.is_null());
        }
        body
    }
}

const PLAN: &str = "5f0c1e5a9b7d4c2e8a6f1b30";
const OTHER_PLAN: &str = "5f0c1e5a9b7d4c2e8a6f1b31";
