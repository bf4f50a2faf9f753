//! Signs and sends webhooks about installations.

mod sent;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

pub(crate) use sent::{SentWebhooks, WebhookCounts};

use crate::Config;
use crate::subject::Subject;
use crate::token::GrantId;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The most webhooks that are sent at the same time.
const CONCURRENCY: usize = 32;

/// How often GHL retries a webhook.
pub(crate) const RETRIES: u32 = 12;

/// The bytes before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Kind {
    Install,
    Uninstall,
    Update,
    PlanChange,
}

/// An event for the app.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// The client id that names the app.
    pub(crate) client: Arc<str>,
    pub(crate) subject: Subject,
    /// The grant of the user who caused it.
    pub(crate) user: Option<GrantId>,
    /// Replaces the generated id, to simulate a repeat.
    pub(crate) id: Option<String>,
    /// Replaces the current time, to simulate a late event.
    pub(crate) timestamp: Option<String>,
    /// Fields that replace the generated ones. `null` removes a field.
    pub(crate) fields: Map<String, Value>,
}

impl Event {
    pub(crate) fn new(kind: Kind, client: Arc<str>, subject: Subject) -> Self {
        Self {
            kind,
            client,
            subject,
            user: None,
            id: None,
            timestamp: None,
            fields: Map::new(),
        }
    }

    pub(crate) fn of_user(mut self, grant: GrantId) -> Self {
        self.user = Some(grant);
        self
    }
}

/// Signs and sends webhooks.
#[derive(Debug)]
pub(crate) struct Webhooks {
    url: Option<Url>,
    client: Client,
    key: Ed25519KeyPair,
    slots: Arc<Semaphore>,
}

/// Why the sandbox could not be started.
pub(crate) type StartError = Box<dyn std::error::Error + Send + Sync>;

/// The key for the signatures. It belongs to the default app, so it is the same after a restart, and `evergreen up` knows it
/// in advance.
fn signing_key(config: &Config) -> Result<Ed25519KeyPair, StartError> {
    let secret = config.client_secret.expose_secret();
    let seed = digest::digest(&digest::SHA256, format!("webhooks {secret}").as_bytes());
    Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
        .map_err(|reason| format!("the webhook key was refused: {reason}").into())
}

/// The public key for the signatures of webhooks, in PEM.
#[must_use]
pub fn webhook_key_pem(config: &Config) -> String {
    // Every seed of 32 bytes is a key.
    signing_key(config).map(|key| pem(&key)).unwrap_or_default()
}

fn pem(key: &Ed25519KeyPair) -> String {
    let key = [&SPKI_PREFIX, key.public_key().as_ref()].concat();
    let key = STANDARD.encode(key);
    format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n")
}

impl Webhooks {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        // This fails if the process has installed a provider already, which then stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self {
            url: config.webhook_url.clone(),
            client,
            key: signing_key(config)?,
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
        })
    }

    /// The public key for the signatures.
    pub(crate) fn public_key_pem(&self) -> String {
        pem(&self.key)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.url.is_some()
    }

    /// Waits until one more webhook may be sent.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.ok()
    }

    /// Signs and sends a body. Returns the status of the response.
    pub(crate) async fn send(&self, body: Bytes) -> Result<u16, String> {
        let url = self.url.clone().ok_or("no webhook URL is set")?;
        let signature = self.key.sign(&body);
        let sent = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("x-ghl-signature", STANDARD.encode(signature))
            .body(body)
            .send()
            .await;
        let response = sent.map_err(|error| error.without_url().to_string())?;
        Ok(response.status().as_u16())
    }
}
