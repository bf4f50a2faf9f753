//! The client of GHL's OAuth token endpoint.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect::Policy;
use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tracing::{Instrument, warn};
use url::{Host, Url};

use crate::api::USER_AGENT;
use crate::client_span::{client_span, record};
use crate::failure::Failure;
use crate::token_response::TokenResponse;

/// Far above any real response, and small enough that an unexpected one cannot exhaust the memory.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the peer may acknowledge nothing before its connection is closed.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);
/// The second part of the wait for a response, see [`wait_for`].
const FINAL_READ: Duration = Duration::from_millis(250);

/// The token endpoint and the client credentials of the app.
#[derive(Debug, Clone)]
pub struct Config {
    /// `{base}/oauth/token`.
    pub url: Url,
    /// The client id, `<app id>-<suffix>`.
    pub client_id: String,
    /// At least one. The first is used, and the next is tried if GHL refuses it.
    pub client_secrets: Vec<SecretString>,
    /// The callback, as registered for the app. GHL expects it with refreshes, too.
    pub redirect_uri: Url,
    /// How long callers wait for a response.
    pub timeout: Duration,
    /// CAs that are trusted in addition to the system's, each a certificate in DER.
    pub authorities: Vec<Vec<u8>>,
}

impl Config {
    /// A fingerprint of the client credentials: 32 hex digits of a SHA-256.
    #[must_use]
    pub fn credentials_fingerprint(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        let secrets = self
            .client_secrets
            .iter()
            .map(|secret| secret.expose_secret());
        for part in [self.client_id.as_str()].into_iter().chain(secrets) {
            hash.update(part.as_bytes());
            // A separator, so that different parts never hash the same text.
            hash.update(&[0]);
        }
        let hash = hash.finish();
        hash.as_ref()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An HTTP response in progress. It borrows nothing, so it can be read in the background after a timeout.
pub type PendingResponse = Pin<Box<dyn Future<Output = Result<HttpResponse, Failure>> + Send>>;

/// Sends a form to the token endpoint and returns the response.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Posts a form. Fails with [`Failure::NotSent`] or [`Failure::Lost`].
    fn post(&self, url: &Url, form: &[(&str, &str)]) -> PendingResponse;
}

/// A complete HTTP response of the token endpoint. Its body may contain tokens, so `Debug` omits it.
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most 1 MiB.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpResponse");
        shown.field("status", &self.status).finish_non_exhaustive()
    }
}

impl Transport for reqwest::Client {
    fn post(&self, url: &Url, form: &[(&str, &str)]) -> PendingResponse {
        let request = reqwest::Client::post(self, url.clone()).form(form);
        Box::pin(async move {
            let response = request.send().await.map_err(|error| {
                // The URL adds nothing to the error.
                let error = error.without_url();
                if error.is_connect() || error.is_builder() {
                    Failure::NotSent(error.into())
                } else {
                    Failure::Lost(error.into())
                }
            })?;
            Ok(HttpResponse {
                status: response.status(),
                headers: response.headers().clone(),
                body: read(response).await?,
            })
        })
    }
}

/// A token response in progress. It has no timeout of its own, see [`wait_for`].
pub type PendingCall = Pin<Box<dyn Future<Output = Result<TokenResponse, Failure>> + Send>>;

/// Waits for a response for at most `timeout_after`. `None` if it has not arrived. The call can be awaited
/// again.
///
/// The wait has two parts. A process that was paused during the first part still reads a response that has
/// arrived, instead of a timeout.
pub async fn wait_for(
    timeout_after: Duration,
    call: &mut PendingCall,
) -> Option<Result<TokenResponse, Failure>> {
    for part in [timeout_after.saturating_sub(FINAL_READ), FINAL_READ] {
        if let Ok(response) = timeout(part, &mut *call).await {
            return Some(response);
        }
    }
    None
}

/// The client of the token endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    /// The index of the client secret that GHL accepted last.
    preferred: Arc<AtomicUsize>,
}

impl TokenEndpoint {
    /// A client over HTTPS.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(config: Config) -> Result<Self, reqwest::Error> {
        Ok(Self::with_transport(
            Arc::new(http_client(&config)?),
            config,
        ))
    }

    /// A client over another transport, such as a simulation.
    #[must_use]
    pub fn with_transport(transport: Arc<dyn Transport>, config: Config) -> Self {
        Self {
            config: Arc::new(config),
            transport,
            preferred: Arc::default(),
        }
    }

    /// See [`Config::credentials_fingerprint`].
    #[must_use]
    pub fn credentials_fingerprint(&self) -> String {
        self.config.credentials_fingerprint()
    }

    /// Exchanges the authorization code of a callback for tokens.
    #[must_use]
    pub fn exchange(&self, code: &SecretString) -> PendingCall {
        self.call(vec![
            ("grant_type", "authorization_code".into()),
            ("code", code.clone()),
            ("redirect_uri", self.config.redirect_uri.as_str().into()),
        ])
    }

    /// Spends a refresh token. `user_type` must be that of the first exchange.
    ///
    /// After [`Failure::Lost`], [`Failure::Unreadable`] and a 5xx the token may be spent.
    #[must_use]
    pub fn refresh(&self, refresh_token: &SecretString, user_type: &str) -> PendingCall {
        self.call(vec![
            ("grant_type", "refresh_token".into()),
            ("refresh_token", refresh_token.clone()),
            ("user_type", user_type.into()),
            ("redirect_uri", self.config.redirect_uri.as_str().into()),
        ])
    }

    /// Tries the secret that GHL accepted last, then the others. A refused secret spends no token.
    fn call(&self, grant: Vec<(&'static str, SecretString)>) -> PendingCall {
        let endpoint = self.clone();
        Box::pin(async move {
            let secrets = endpoint.config.client_secrets.len();
            let first = endpoint.preferred.load(Ordering::Relaxed);
            let mut refused = String::new();
            for index in (0..secrets).map(|offset| (first + offset) % secrets) {
                match endpoint.call_with(index, &grant).await {
                    Err(Failure::ClientRejected(reason)) => refused = reason,
                    Ok(response) => {
                        endpoint.prefer(index);
                        return Ok(response);
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
                "GHL refuses the client secret that was used so far and accepts another one of \
                 GHL_CLIENT_SECRET, which is used from now on"
            );
        }
    }

    async fn call_with(
        &self,
        secret: usize,
        grant: &[(&str, SecretString)],
    ) -> Result<TokenResponse, Failure> {
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
        let span = client_span(&Method::POST, &self.config.url);
        let sending = self.transport.post(&self.config.url, &form);
        let answer = sending.instrument(span.clone()).await;
        let status = answer.as_ref().map(|response| response.status);
        record(&span, status.map_err(|_| "no_answer"));
        let response = answer?;
        if response.status.is_success() {
            TokenResponse::parse(&response.body).map_err(|reason| Failure::Unreadable {
                reason,
                body: response.body.into(),
            })
        } else {
            let retry_after = response.headers.get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok());
            let is_secret = |name: &str| matches!(name, "code" | "refresh_token");
            let sent = grant.iter().filter(|(name, _)| is_secret(name));
            let sent = sent.map(|(_, value)| value);
            let secrets = sent.chain(self.config.client_secrets.iter());
            Err(Failure::of(
                response.status,
                retry_after,
                &response.body,
                secrets,
            ))
        }
    }
}

/// A client of GHL over HTTPS.
///
/// # Errors
/// If TLS cannot be set up.
pub(crate) fn http_client(config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    let http = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT.min(config.timeout / 2))
        .redirect(Policy::none())
        // A silent connection must not be reused for the retry within GHL's grace period. HTTP/1
        // closes a connection that timed out, and idle ones are dropped early.
        .http1_only()
        .pool_idle_timeout(IDLE_TIMEOUT)
        // A late call is read for minutes. TCP acknowledgements distinguish a slow host from a dead one.
        .tcp_keepalive(UNACKNOWLEDGED_TIMEOUT / 2)
        .tcp_keepalive_interval(UNACKNOWLEDGED_TIMEOUT / 4)
        .tcp_keepalive_retries(2_u32);
    // A proxy of the environment is for the world beyond this machine.
    let http = match is_loopback(&config.url) {
        true => http.no_proxy(),
        false => http,
    };
    let authorities = config
        .authorities
        .iter()
        .map(|der| reqwest::Certificate::from_der(der));
    let http = http.tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?);
    #[cfg(target_os = "linux")]
    let http = http.tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT);
    http.build()
}

pub(crate) async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_RESPONSE_BYTES => {
                return Err(Failure::Lost("the response is larger than 1 MiB".into()));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Failure::Lost(error.without_url().into())),
        }
    }
}
