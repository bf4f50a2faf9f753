//! Announces events to the app by webhook.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::warn;

use crate::app::App;
use crate::clock::iso;
use crate::webhooks::{Event, Kind};

impl App {
    /// Sends an event in the background if a webhook URL is set.
    pub(crate) fn announce(self: &Arc<Self>, event: Event) {
        if !self.webhooks.is_enabled() {
            return;
        }
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.deliver(&event).await {
                warn!(error, "webhook was not delivered");
            }
        });
    }

    /// Sends an event. Returns its body and the status of the response.
    pub(crate) async fn deliver(&self, event: &Event) -> Result<(Value, u16), String> {
        let body = self.body(event);
        let status = self.webhooks.send(&body).await?;
        Ok((body, status))
    }

    fn body(&self, event: &Event) -> Value {
        let client_id = &self.config.client_id;
        // GHL's client ids have the form `<app id>-<suffix>`.
        let app_id = client_id.split('-').next().unwrap_or(client_id);
        let now = || iso(self.clock.now_ms());
        let mut body = json!({
            "type": event.kind,
            "appId": app_id,
            "companyId": **event.subject.company(),
            "timestamp": event.timestamp.clone().unwrap_or_else(now),
            "webhookId": event.id.clone().unwrap_or_else(|| self.ids.uuid()),
        });
        if let Some(location) = event.subject.location() {
            body["locationId"] = json!(**location);
        }
        if event.kind == Kind::Install {
            body["installType"] = json!(event.subject.user_type());
            body["companyName"] = json!("Northwind Sandbox Agency");
            body["isWhitelabelCompany"] = json!(false);
        }
        body
    }
}
