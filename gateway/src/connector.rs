//! Opens connections to GHL and to the broker: over TLS where a URL says https.

use std::future::Future;
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
use tower::Service;

/// What everything on the way to GHL is sent through.
#[derive(Clone, Debug)]
pub(crate) enum Connector {
    /// No URL is https: a host without certificates can run that.
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

/// TLS as this host trusts it.
///
/// # Errors
/// When the host has no certificates of authorities.
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
                Self::Tls(tls)
            }
        }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Plain(tcp) => tcp.poll_ready(context).map_err(Into::into),
            Self::Tls(tls) => tls.poll_ready(context),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Self::Plain(tcp) => {
                let connecting = tcp.call(to);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Self::Tls(tls) => tls.call(to),
        }
    }
}
