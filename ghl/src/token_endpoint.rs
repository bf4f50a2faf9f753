//! The token endpoint's client.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tracing::warn;
use url::Url;

use crate::answer::Answer;
use crate::api::USER_AGENT;
use crate::failure::Failure;

/// Far above any answer, and small enough that a strange one cannot fill the memory.
const LARGEST_ANSWER: usize = 1024 * 1024;
const IDLE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the other end may acknowledge nothing before it counts as gone.
const SILENCE: Duration = Duration::from_secs(10);
/// The least time there is to read an answer that has arrived.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// The app's account at GHL, and the endpoint that knows it.
#[derive(Debug, Clone)]
pub struct Config {
    /// `{base}/oauth/token`.
    pub url: Url,
    pub client_id: String,
    /// At least one. The first is used; the next one is tried where GHL refuses it.
    pub client_secrets: Vec<SecretString>,
    pub redirect_uri: Url,
    /// How long callers wait for an answer.
    pub timeout: Duration,
}

impl Config {
    /// Names the client id and secrets without telling them: the first half of a hash.
    #[must_use]
    pub fn credentials(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        let secrets = self
            .client_secrets
            .iter()
            .map(|secret| secret.expose_secret());
        for part in [self.client_id.as_str()].into_iter().chain(secrets) {
            hash.update(part.as_bytes());
            // No two lists of parts are one text.
            hash.update(&[0]);
        }
        let hash = hash.finish();
        hash.as_ref()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A call under way. It owns all that it needs: whoever stops waiting may have it read on.
pub type Posted = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;

/// Carries a form to the token endpoint and brings what comes back.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    fn post(&self, url: &Url, form: &[(&str, &str)]) -> Posted;
}

/// A whole answer of the token endpoint. Its body may hold tokens.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Response");
        shown.field("status", &self.status).finish_non_exhaustive()
    }
}

impl Transport for reqwest::Client {
    fn post(&self, url: &Url, form: &[(&str, &str)]) -> Posted {
        let request = reqwest::Client::post(self, url.clone()).form(form);
        Box::pin(async move {
            let response = request.send().await.map_err(|error| {
                // The URL holds no secret, but says nothing new either.
                let error = error.without_url();
                if error.is_connect() || error.is_builder() {
                    Failure::NotSent(error.into())
                } else {
                    Failure::Lost(error.into())
                }
            })?;
            Ok(Response {
                status: response.status(),
                headers: response.headers().clone(),
                body: read(response).await?,
            })
        })
    }
}

/// An answer that is on its way. Nothing bounds how long it takes: see [`within`].
pub type Call = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// Waits for an answer for `patience`; `None`: it has not come yet, and may be waited for again.
///
/// The time is counted in two parts, so that a process that was stopped meanwhile still reads what
/// has arrived for it before it takes the answer for late.
pub async fn within(patience: Duration, call: &mut Call) -> Option<Result<Answer, Failure>> {
    for part in [patience.saturating_sub(LAST_LOOK), LAST_LOOK] {
        if let Ok(answer) = timeout(part, &mut *call).await {
            return Some(answer);
        }
    }
    None
}

/// Calls the token endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    /// Which of the client secrets GHL took last.
    preferred: Arc<AtomicUsize>,
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
            // A call is read for minutes. A host that is gone is told from one that is slow by what
            // TCP acknowledges.
            .tcp_keepalive(SILENCE / 2)
            .tcp_keepalive_interval(SILENCE / 4)
            .tcp_keepalive_retries(2_u32);
        #[cfg(target_os = "linux")]
        let http = http.tcp_user_timeout(SILENCE);
        Ok(Self::over(Arc::new(http.build()?), config))
    }

    #[must_use]
    pub fn over(transport: Arc<dyn Transport>, config: Config) -> Self {
        Self {
            config: Arc::new(config),
            transport,
            preferred: Arc::default(),
        }
    }

    /// Names the client id and secrets without telling them.
    #[must_use]
    pub fn credentials(&self) -> String {
        self.config.credentials()
    }

    /// Exchanges the code of a callback. Fails where GHL grants nothing.
    #[must_use]
    pub fn exchange(&self, code: &SecretString) -> Call {
        self.call(vec![
            ("grant_type", "authorization_code".into()),
            ("code", code.clone()),
            ("redirect_uri", self.config.redirect_uri.as_str().into()),
        ])
    }

    /// Spends a refresh token. `user_type` repeats that of the first exchange.
    ///
    /// Fails where GHL grants nothing that can be read. [`Failure::Lost`], [`Failure::Unreadable`] and
    /// a 5xx mean that the token may be spent.
    #[must_use]
    pub fn refresh(&self, refresh_token: &SecretString, user_type: &str) -> Call {
        self.call(vec![
            ("grant_type", "refresh_token".into()),
            ("refresh_token", refresh_token.clone()),
            ("user_type", user_type.into()),
            ("redirect_uri", self.config.redirect_uri.as_str().into()),
        ])
    }

    /// Tries the secret that GHL took last, and the others where GHL refuses it: a refused secret
    /// spends nothing.
    fn call(&self, grant: Vec<(&'static str, SecretString)>) -> Call {
        let endpoint = self.clone();
        Box::pin(async move {
            let secrets = endpoint.config.client_secrets.len();
            let first = endpoint.preferred.load(Ordering::Relaxed);
            let mut refused = String::new();
            for index in (0..secrets).map(|offset| (first + offset) % secrets) {
                match endpoint.call_with(index, &grant).await {
                    Err(Failure::ClientRejected(reason)) => refused = reason,
                    Ok(answer) => {
                        endpoint.prefer(index);
                        return Ok(answer);
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(Failure::ClientRejected(refused))
        })
    }

    fn prefer(&self, index: usize) {
        if self.preferred.swap(index, Ordering::Relaxed) != index {
            warn!(
                secret = index + 1,
                "GHL refuses the client secret that was used until now and takes another one of \
                 GHL_CLIENT_SECRET: that one is used from now on"
            );
        }
    }

    async fn call_with(
        &self,
        secret: usize,
        grant: &[(&str, SecretString)],
    ) -> Result<Answer, Failure> {
        let secret = &self.config.client_secrets[secret];
        let mut form = vec![
            ("client_id", self.config.client_id.as_str()),
            ("client_secret", secret.expose_secret()),
        ];
        form.extend(
            grant
                .iter()
                .map(|(name, value)| (*name, value.expose_secret())),
        );
        let response = self.transport.post(&self.config.url, &form).await?;
        if response.status.is_success() {
            Answer::parse(&response.body).map_err(|reason| Failure::Unreadable {
                reason,
                body: response.body.into(),
            })
        } else {
            let retry_after = response.headers.get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok());
            Err(Failure::of(response.status, retry_after, &response.body))
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
