//! Sealing keys: processes with wrong ones do not start, and an old key can be rotated out.

mod command;
mod reload;
mod rotation;
mod wrong_keys;

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use store::KeyRing;
use tests::client::{self, get};
use tests::fleet::Member;
use tests::port;
use tests::program::Start;
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(60);

/// A new key as the settings have it.
fn key(id: &str) -> String {
    KeyRing::generate_text(id).expose_secret().to_owned()
}

/// Both rings of a process.
#[derive(Debug, Clone)]
struct Keys {
    access: String,
    refresh: String,
}

impl Keys {
    /// One key with this id in each ring.
    fn new(id: &str) -> Self {
        Self {
            access: key(id),
            refresh: key(id),
        }
    }

    /// The keys of both, these first.
    fn then(&self, other: &Self) -> Self {
        Self {
            access: format!("{},{}", self.access, other.access),
            refresh: format!("{},{}", self.refresh, other.refresh),
        }
    }
}

/// A store and a GHL, without processes of evergreen.
struct Site {
    redis: Redis,
    sandbox: Sandbox,
    scratch: Scratch,
    client: reqwest::Client,
}

impl Site {
    async fn start(sandbox: &[(&str, &str)]) -> Self {
        Self {
            redis: Redis::start().await,
            sandbox: Sandbox::start(sandbox).await,
            scratch: Scratch::new(),
            client: client::new(),
        }
    }

    /// A broker with its own data directory.
    fn broker(&self, name: &str, keys: &Keys) -> Start {
        Start::evergreen(&["broker"])
            .env("EVERGREEN_REDIS_URL", self.redis.url())
            .env("EVERGREEN_ACCESS_KEYS", &keys.access)
            .env("EVERGREEN_REFRESH_KEYS", &keys.refresh)
            .env("EVERGREEN_DATA_DIR", self.scratch.join(name))
            .env("EVERGREEN_BROKER_NAME", name)
            .env("GHL_API_URL", &self.sandbox.url)
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", self.sandbox.url),
            )
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret")
    }

    fn gateway(&self, access: &str, broker: &Member) -> Start {
        Start::evergreen(&["gateway"])
            .env("EVERGREEN_REDIS_URL", self.redis.url())
            .env("EVERGREEN_ACCESS_KEYS", access)
            .env("EVERGREEN_BROKER_URL", format!("http://{}", broker.address))
    }

    async fn install(&self, broker: &Member, location: &str) -> String {
        let url = format!("http://{}", broker.address);
        client::install(&self.client, &url, location).await
    }

    /// The access token that a gateway gives for an installation.
    async fn token(&self, gateway: &Member, id: &str) -> (u16, Value) {
        let url = format!("{}/v1/installations/{id}/token", gateway.internal);
        get(&self.client, &url).await
    }
}

/// With free addresses.
fn placed(start: Start) -> Start {
    let at = || format!("127.0.0.1:{}", port::free());
    start
        .env("EVERGREEN_LISTEN", at())
        .env("EVERGREEN_INTERNAL_LISTEN", at())
}

/// Runs a process that must refuse to start. Its message has these words.
async fn refused(start: Start, words: &[&str]) {
    let output = placed(start).run_within(PATIENCE).await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert!(message.contains("evergreen did not start"), "{message}");
}
