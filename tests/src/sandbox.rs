//! The sandbox: GHL's part, its ledger, and its faults.

use reqwest::Client;
use serde_json::{Value, json};

use crate::client;
use crate::port;
use crate::program::{Program, Start, wait_for_port};

/// A running sandbox, or the one inside `evergreen up`.
#[derive(Debug)]
pub struct Sandbox {
    pub url: String,
    client: Client,
    program: Option<Program>,
}

impl Sandbox {
    /// Starts one with these settings: `TOKEN_LIFETIME` for `EVERGREEN_SANDBOX_TOKEN_LIFETIME`.
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

    /// One that runs already.
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

    /// The process, where it is one of its own.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// The counts that tests judge by.
    pub async fn ledger(&self) -> Value {
        client::get(&self.client, &format!("{}/_sandbox/ledger", self.url))
            .await
            .1
    }

    /// One count of the ledger.
    ///
    /// # Panics
    /// When there is no such count.
    pub async fn count(&self, name: &str) -> u64 {
        let ledger = self.ledger().await;
        ledger[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {ledger}"))
    }

    /// How many API calls were answered with 429.
    ///
    /// # Panics
    /// When the ledger has no such count.
    pub async fn rate_limited_calls(&self) -> u64 {
        let ledger = self.ledger().await;
        ledger["api_calls"]["rate_limited"]
            .as_u64()
            .expect("a count")
    }

    /// The chain of one location.
    pub async fn chain(&self, location: &str) -> Value {
        let url = format!("{}/_sandbox/ledger/{location}", self.url);
        client::get(&self.client, &url).await.1
    }

    /// The chains of all installations that it knows of.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn chains(&self) -> Vec<Value> {
        let url = format!("{}/_sandbox/ledger?detail=1", self.url);
        let mut ledger = client::get(&self.client, &url).await.1;
        match ledger["installations"].take() {
            Value::Array(chains) => chains,
            other => panic!("no installations but {other}"),
        }
    }

    /// Sets the faults to these rules.
    pub async fn faults(&self, rules: Value) {
        let request = self
            .client
            .put(format!("{}/_sandbox/faults", self.url))
            .json(&rules);
        Self::expect_success(request).await;
    }

    /// The rules in force, with how many calls each has struck.
    pub async fn shown_faults(&self) -> Value {
        client::get(&self.client, &format!("{}/_sandbox/faults", self.url))
            .await
            .1
    }

    /// Changes settings, under the names of `/_sandbox/settings`.
    pub async fn set(&self, change: Value) {
        let url = format!("{}/_sandbox/settings", self.url);
        Self::expect_success(self.client.put(url).json(&change)).await;
    }

    /// Steers a location: `revoke`, `pause`, `resume`, `expire`.
    pub async fn steer(&self, what: &str, location: &str) {
        let url = format!("{}/_sandbox/{what}", self.url);
        Self::expect_success(
            self.client
                .post(url)
                .json(&json!({ "locationId": location })),
        )
        .await;
    }

    /// Has a webhook sent; returns the sandbox's result of it.
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

    /// The key that its webhooks are signed with.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn webhook_key(&self) -> String {
        let url = format!("{}/_sandbox/webhook-key.pem", self.url);
        let (status, key) = client::get(&self.client, &url).await;
        assert_eq!(status, 200);
        key.as_str().expect("PEM").to_owned()
    }
}
