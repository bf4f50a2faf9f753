//! Telling the app that it was installed or uninstalled.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;
use url::Url;

use crate::app::App;
use crate::clock::iso;
use crate::subject::Subject;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What comes before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Kind {
    Install,
    Uninstall,
}

/// Something to tell the app.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) subject: Subject,
    /// In place of a fresh one, to play a repeat.
    pub(crate) id: Option<String>,
    /// In place of now, to play a late one.
    pub(crate) timestamp: Option<String>,
}

impl Event {
    pub(crate) fn new(kind: Kind, subject: Subject) -> Self {
        Self {
            kind,
            subject,
            id: None,
            timestamp: None,
        }
    }

    fn body(&self, app: &App) -> Value {
        let app_id = &app.config.client_id;
        // GHL's client ids are the app's id, a dash, and something more.
        let app_id = app_id.split('-').next().unwrap_or(app_id);
        let now = || iso(app.clock.now_ms());
        let mut body = json!({
            "type": self.kind,
            "appId": app_id,
            "companyId": **self.subject.company(),
            "timestamp": self.timestamp.clone().unwrap_or_else(now),
            "webhookId": self.id.clone().unwrap_or_else(|| app.ids.uuid()),
        });
        if let Some(location) = self.subject.location() {
            body["locationId"] = json!(**location);
        }
        if self.kind == Kind::Install {
            body["installType"] = json!(self.subject.user_type());
            body["companyName"] = json!("Northwind Sandbox Agency");
            body["isWhitelabelCompany"] = json!(false);
        }
        body
    }
}

/// Signs and sends.
#[derive(Debug)]
pub(crate) struct Webhooks {
    url: Option<Url>,
    client: Client,
    key: Ed25519KeyPair,
}

/// Why the sandbox could not be started.
pub(crate) type StartError = Box<dyn std::error::Error + Send + Sync>;

impl Webhooks {
    pub(crate) fn new(url: Option<Url>) -> Result<Self, StartError> {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| "the system gave no random numbers for the webhook key")?;
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref())
            .map_err(|reason| format!("the webhook key was refused: {reason}"))?;
        // The process may have chosen its provider already; then that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { url, client, key })
    }

    /// The key that signatures are checked with.
    pub(crate) fn public_key_pem(&self) -> String {
        let key = [&SPKI_PREFIX, self.key.public_key().as_ref()].concat();
        let key = STANDARD.encode(key);
        format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n")
    }
}

impl App {
    /// Tells the app, without waiting for its answer, if it has said where.
    pub(crate) fn announce(self: &Arc<Self>, event: Event) {
        if self.webhooks.url.is_none() {
            return;
        }
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.deliver(&event).await {
                warn!(error, "webhook was not delivered");
            }
        });
    }

    /// Tells the app and answers what was sent and the status that came back.
    pub(crate) async fn deliver(&self, event: &Event) -> Result<(Value, u16), String> {
        let url = self.webhooks.url.clone().ok_or("no webhook URL is set")?;
        let body = event.body(self);
        let bytes = body.to_string();
        let signature = self.webhooks.key.sign(bytes.as_bytes());
        let sent = self
            .webhooks
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("x-ghl-signature", STANDARD.encode(signature))
            .body(bytes)
            .send()
            .await;
        let answer = sent.map_err(|error| error.without_url().to_string())?;
        Ok((body, answer.status().as_u16()))
    }
}
