//! The sandbox: simulated GHL, its ledger, and its faults.

use reqwest::Client;
use serde_json::{Value, json};

use crate::client;
use crate::port;
use crate::program::{Program, Start, wait_for_port};

/// The agency of every sandbox.
pub const AGENCY: &str = "sandboxNorthwindHQ01";

/// A sandbox process, or the sandbox inside `evergreen up`.
#[derive(Debug)]
pub struct Sandbox {
    pub url: String,
    client: Client,
    program: Option<Program>,
}

impl Sandbox {
    /// Starts one with these settings, named without `EVERGREEN_SANDBOX_`: `TOKEN_LIFETIME`.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let port = port::free();
        let mut start = Start::evergreen(&["sandbox"])
            .env("EVERGREEN_SANDBOX_LISTEN", format!("127.0.0.1:{port}"))
            .env("EVERGREEN_SANDBOX_RATE_LIMIT", 0)
            .env("EVERGREEN_SANDBOX_DAILY_LIMIT", 0);
        for (key, value) in settings {
            start = start.env(&format!("EVERGREEN_SANDBOX_{key}"), value);
        }
        let program = start.spawn();
        wait_for_port(port).await;
        Self {
            program: Some(program),
            ..Self::at(&format!("http://127.0.0.1:{port}"))
        }
    }

    /// A sandbox that is already running.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            client: client::new(),
            program: None,
        }
    }

    /// The program, with this sandbox as GHL.
    #[must_use]
    pub fn as_ghl_of(&self, start: Start) -> Start {
        start
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret")
            .env("GHL_API_URL", &self.url)
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", self.url),
            )
    }

    /// The process, unless it is part of `evergreen up`.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// The counters that tests check.
    pub async fn ledger(&self) -> Value {
        client::get(&self.client, &format!("{}/_sandbox/ledger", self.url))
            .await
            .1
    }

    /// One counter of the ledger.
    ///
    /// # Panics
    /// If there is no such count.
    pub async fn count(&self, name: &str) -> u64 {
        let ledger = self.ledger().await;
        ledger[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {ledger}"))
    }

    /// The number of API calls that were answered with 429.
    ///
    /// # Panics
    /// If the ledger has no such count.
    pub async fn rate_limited_calls(&self) -> u64 {
        let ledger = self.ledger().await;
        ledger["api_calls"]["rate_limited"]
            .as_u64()
            .expect("a count")
    }

    /// The token chain of one location.
    pub async fn chain(&self, location: &str) -> Value {
        let url = format!("{}/_sandbox/ledger/{location}", self.url);
        client::get(&self.client, &url).await.1
    }

    /// The token chains of all installations.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn chains(&self) -> Vec<Value> {
        let url = format!("{}/_sandbox/ledger?detail=1", self.url);
        let mut ledger = client::get(&self.client, &url).await.1;
        match ledger["installations"].take() {
            Value::Array(chains) => chains,
            other => panic!("no installations but {other}"),
        }
    }

    /// Replaces the fault rules.
    pub async fn faults(&self, rules: Value) {
        let request = self
            .client
            .put(format!("{}/_sandbox/faults", self.url))
            .json(&rules);
        Self::expect_success(request).await;
    }

    /// The fault rules, with how many calls each has matched.
    pub async fn shown_faults(&self) -> Value {
        client::get(&self.client, &format!("{}/_sandbox/faults", self.url))
            .await
            .1
    }

    /// Changes settings, with the names of `/_sandbox/settings`.
    pub async fn set(&self, change: Value) {
        let url = format!("{}/_sandbox/settings", self.url);
        Self::expect_success(self.client.put(url).json(&change)).await;
    }

    /// Changes the state of a location: `revoke`, `pause`, `resume`, `expire`.
    pub async fn steer(&self, what: &str, location: &str) {
        let url = format!("{}/_sandbox/{what}", self.url);
        Self::expect_success(
            self.client
                .post(url)
                .json(&json!({ "locationId": location })),
        )
        .await;
    }

    /// Makes the sandbox send a webhook. Returns its report.
    pub async fn webhook(&self, event: &Value) -> Value {
        let url = format!("{}/_sandbox/webhooks", self.url);
        Self::expect_success(self.client.post(url).json(event)).await
    }

    async fn expect_success(request: reqwest::RequestBuilder) -> Value {
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let status = response.status();
        let body = client::body(response).await;
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    /// The public key of its webhooks.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn webhook_key(&self) -> String {
        let url = format!("{}/_sandbox/webhook-key.pem", self.url);
        let (status, key) = client::get(&self.client, &url).await;
        assert_eq!(status, 200);
        key.as_str().expect("PEM").to_owned()
    }
}
