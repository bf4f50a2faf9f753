//! Sends one message to an endpoint.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghl::api::USER_AGENT;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Response;
use reqwest::redirect::Policy;
use service::config::{Settings, is_loopback};
use service::tls::Authorities;
use store::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::address::PrivateAddresses;
use super::config::read_private_addresses;
use super::delivery_error::DeliveryError;
use super::endpoint::Endpoint;
use super::resolver::GuardedResolver;
use super::signature::sign;

/// For a whole delivery: from the lookup of the name to the begin of the answer's body.
const TIME_LIMIT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a name may take to resolve that only a proxy needs to know.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the body of a success may take. It is read only so that the connection can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the body of another answer may take, for an excerpt.
const EXCERPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of an answer that is read.
const MAX_ANSWER_BYTES: usize = 4096;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers of one connection. They are never forwarded.
const OF_A_CONNECTION: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How endpoints are reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether they may be within the own network.
    pub private_addresses: PrivateAddresses,
    /// CAs that are trusted in addition to the system's.
    pub authorities: Authorities,
}

impl Config {
    /// Reads the settings. Mistakes are collected in `settings`.
    pub(crate) fn read(settings: &mut Settings<'_>) -> Self {
        Self {
            private_addresses: read_private_addresses(settings),
            authorities: Authorities::read(settings),
        }
    }
}

/// A message for an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The same for each attempt, so that a receiver notices a repetition. It has no `.`, which separates what is signed.
    pub(crate) id: &'a str,
    pub(crate) content_type: &'a HeaderValue,
    /// Further headers, such as those of a forwarded webhook. Those of a connection and those that are set here are left
    /// out.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    private_addresses: PrivateAddresses,
    resolver: GuardedResolver,
    direct: reqwest::Client,
    /// For URLs that the environment has a proxy for.
    proxied: reqwest::Client,
    proxies: Arc<Matcher>,
}

impl Client {
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let resolver = GuardedResolver::of_the_system(config.private_addresses);
        Self::with(config, resolver, Matcher::from_env())
    }

    fn with(
        config: &Config,
        resolver: GuardedResolver,
        proxies: Matcher,
    ) -> Result<Self, reqwest::Error> {
        let direct = builder(config)?
            .no_proxy()
            .dns_resolver(resolver.clone())
            .build()?;
        Ok(Self {
            private_addresses: config.private_addresses,
            resolver,
            direct,
            // The resolver is not for the name of the proxy, which may be within the own network.
            proxied: builder(config)?.build()?,
            proxies: proxies.into(),
        })
    }

    /// Sends a message, and waits for the answer for at most 15 s. `now` is what the signature says.
    ///
    /// # Errors
    /// If there is no answer with 2xx. The endpoint may have got the message nevertheless.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> Result<(), DeliveryError> {
        match timeout(TIME_LIMIT, self.attempt(endpoint, message, now)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DeliveryError::Timeout),
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> Result<(), DeliveryError> {
        let url = &endpoint.url;
        // An address needs no resolver.
        let checked = self.private_addresses.check_url(url);
        checked.map_err(DeliveryError::RefusedAddress)?;
        let client = match self.has_proxy(url) {
            true => {
                self.check_name(url).await?;
                &self.proxied
            }
            false => &self.direct,
        };
        let request = client
            .post(url.clone())
            .headers(headers(endpoint, message, now)?)
            .body(message.body.clone());
        let answer = request.send().await.map_err(DeliveryError::of_request)?;
        let status = answer.status();
        if status.is_success() {
            read(answer, DRAIN_TIMEOUT).await;
            return Ok(());
        }
        let body = read(answer, EXCERPT_TIMEOUT).await;
        Err(DeliveryError::of_answer(status.as_u16(), &body))
    }

    /// A proxy of the environment is for the world beyond this machine.
    fn has_proxy(&self, url: &Url) -> bool {
        let uri = url.as_str().parse::<Uri>();
        let proxy = |uri: Uri| self.proxies.intercept(&uri).is_some();
        !is_loopback(url) && uri.is_ok_and(proxy)
    }

    /// A proxy resolves names itself, and decides what it connects to. So this is a check of what can be seen here.
    async fn check_name(&self, url: &Url) -> Result<(), DeliveryError> {
        let Some(name) = url.domain() else {
            return Ok(());
        };
        let checked = self.resolver.check_all(name.to_owned());
        match timeout(CHECK_TIMEOUT, checked).await {
            Ok(checked) => checked.map_err(DeliveryError::RefusedAddress),
            Err(_) => Ok(()),
        }
    }
}

fn builder(config: &Config) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let authorities = config.authorities.der().map(reqwest::Certificate::from_der);
    let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIME_LIMIT)
        .redirect(Policy::none())
        // HTTP/1 closes a connection that timed out, so that the next attempt does not use it.
        .http1_only()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_certs_merge(authorities);
    Ok(builder)
}

fn headers(
    endpoint: &Endpoint,
    message: Message<'_>,
    now: Timestamp,
) -> Result<HeaderMap, DeliveryError> {
    let seconds = now.as_millis().div_euclid(1000);
    let signature = sign(&endpoint.secrets, message.id, seconds, message.body);
    let value = |text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| DeliveryError::Other("the message's id cannot be a header".to_owned()))
    };
    let own = [
        (CONTENT_TYPE, message.content_type.clone()),
        (WEBHOOK_ID, value(message.id)?),
        (WEBHOOK_TIMESTAMP, seconds.into()),
        (WEBHOOK_SIGNATURE, value(&signature)?),
    ];
    let mut headers = message.headers.clone();
    // The client sets its own.
    headers.remove(http::header::USER_AGENT);
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
    for (name, value) in own {
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The begin of a body, as far as it comes within a time limit.
async fn read(mut answer: Response, limit: Duration) -> Vec<u8> {
    let deadline = Instant::now() + limit;
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES {
        match timeout_at(deadline, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    body.truncate(MAX_ANSWER_BYTES);
    body
}

#[cfg(test)]
mod tests;
