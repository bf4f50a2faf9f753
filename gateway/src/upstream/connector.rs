//! Opens connections to GHL and to the broker, with TLS if the URL is https. Failed attempts are repeated, since no
//! request was sent yet.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::cause::cause;

/// How many times a connection is attempted.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt. It doubles for the third.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Connects to the upstreams.
#[derive(Clone, Debug)]
pub(crate) enum Connector {
    /// No URL is https. This works on a host without certificates.
    Plain(HttpConnector),
    /// With the timeout of a handshake.
    Tls(HttpsConnector<HttpConnector>, Duration),
}

/// TLS with the trusted certificates of this host.
///
/// # Errors
/// When the host has no CA certificates.
pub(crate) fn tls() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .try_with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}

impl Connector {
    pub(crate) fn new(tls: Option<ClientConfig>, connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        match tls {
            None => Self::Plain(tcp),
            Some(config) => {
                tcp.enforce_http(false);
                let tls = HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_or_http()
                    .enable_all_versions()
                    .wrap_connector(tcp);
                Self::Tls(tls, connect_timeout)
            }
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Plain(tcp) => tcp.poll_ready(context).map_err(Into::into),
            Self::Tls(tls, _) => tls.poll_ready(context),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut connector = self.clone();
        Box::pin(async move {
            for attempt in 1..ATTEMPTS {
                match connector.connect(to.clone()).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) if is_timeout(&*error) => return Err(error),
                    Err(_) => sleep(PAUSE * attempt).await,
                }
            }
            connector.connect(to).await
        })
    }
}

impl Connector {
    async fn connect(&mut self, to: Uri) -> Result<Stream, BoxError> {
        match self {
            Self::Plain(tcp) => Ok(MaybeHttpsStream::Http(tcp.call(to).await?)),
            Self::Tls(tls, patience) => match timeout(*patience, tls.call(to)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            },
        }
    }
}

/// Whether an attempt used the whole timeout. Then there is no time for another.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    cause::<io::Error>(error).is_some_and(|reason| reason.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use tokio::net::TcpListener;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tls_handshake_times_out_and_is_not_retried() {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("https://{}", silent.local_addr().unwrap());
        let patience = Duration::from_secs(5);
        let connector = Connector::new(Some(config), patience);
        let began = tokio::time::Instant::now();
        let error = connector.oneshot(to.parse().unwrap()).await.unwrap_err();
        assert!(is_timeout(&*error), "{error}");
        assert_eq!(began.elapsed(), patience);
    }
}
