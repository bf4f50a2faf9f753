//! The token endpoint's client.

use std::pin::pin;
use std::time::Duration;

use http::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use url::Url;

use crate::answer::Answer;
use crate::api::USER_AGENT;
use crate::failure::Failure;

/// Far above any answer, and small enough that a strange one cannot fill the memory.
const LARGEST_ANSWER: usize = 1024 * 1024;
const IDLE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The least time there is to read an answer that has arrived.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// The app's account at GHL, and the endpoint that knows it.
#[derive(Debug, Clone)]
pub struct Config {
    /// `{base}/oauth/token`.
    pub url: Url,
    pub client_id: String,
    pub client_secret: SecretString,
    pub redirect_uri: Url,
    /// From the connection's begin to the last byte received.
    pub timeout: Duration,
}

/// Calls the token endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    config: Config,
    http: reqwest::Client,
}

impl TokenEndpoint {
    /// # Errors
    /// When this machine's TLS cannot be set up.
    pub fn new(config: Config) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout / 2))
            .redirect(Policy::none())
            // A connection whose other end fell silent must not be used again for the repeat that
            // GHL's grace allows: over HTTP/1 one that timed out is closed, and an idle one is not
            // kept for longer than any call takes.
            .http1_only()
            .pool_idle_timeout(IDLE)
            .build()?;
        Ok(Self { config, http })
    }

    /// Exchanges the code of a callback.
    ///
    /// # Errors
    /// When GHL grants nothing.
    pub async fn exchange(&self, code: &SecretString) -> Result<Answer, Failure> {
        self.call(&[
            ("grant_type", "authorization_code"),
            ("code", code.expose_secret()),
            ("redirect_uri", self.config.redirect_uri.as_str()),
        ])
        .await
    }

    /// Spends a refresh token. `user_type` repeats that of the first exchange.
    ///
    /// # Errors
    /// When GHL grants nothing. [`Failure::Lost`] and a 5xx mean that the token may be spent.
    pub async fn refresh(
        &self,
        refresh_token: &SecretString,
        user_type: &str,
    ) -> Result<Answer, Failure> {
        self.call(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
            ("user_type", user_type),
            ("redirect_uri", self.config.redirect_uri.as_str()),
        ])
        .await
    }

    /// The time is counted in two parts, so that a process that was stopped meanwhile still reads
    /// what has arrived for it before it takes the answer for lost.
    async fn call(&self, grant: &[(&str, &str)]) -> Result<Answer, Failure> {
        let mut exchange = pin!(self.exchange_bodies(grant));
        for part in [self.config.timeout.saturating_sub(LAST_LOOK), LAST_LOOK] {
            if let Ok(answer) = timeout(part, &mut exchange).await {
                return answer;
            }
        }
        Err(Failure::Lost("GHL's answer did not come in time".into()))
    }

    async fn exchange_bodies(&self, grant: &[(&str, &str)]) -> Result<Answer, Failure> {
        let mut form = vec![
            ("client_id", self.config.client_id.as_str()),
            ("client_secret", self.config.client_secret.expose_secret()),
        ];
        form.extend_from_slice(grant);
        let request = self.http.post(self.config.url.clone()).form(&form);
        let response = request.send().await.map_err(|error| {
            // The URL holds no secret, but says nothing new either.
            let error = error.without_url();
            if error.is_connect() || error.is_builder() {
                Failure::NotSent(error)
            } else {
                Failure::Lost(error.into())
            }
        })?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).cloned();
        let body = read(response).await?;
        if status.is_success() {
            Answer::parse(&body).map_err(|error| Failure::Lost(error.into()))
        } else {
            let retry_after = retry_after.as_ref().and_then(|value| value.to_str().ok());
            Err(Failure::of(status, retry_after, &body))
        }
    }
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST_ANSWER => {
                return Err(Failure::Lost("the answer is larger than 1 MiB".into()));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Failure::Lost(error.without_url().into())),
        }
    }
}
