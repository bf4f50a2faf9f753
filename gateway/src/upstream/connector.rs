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
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use service::origin::is_loopback;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::cause::cause;

/// How many times a connection is attempted.
const ATTEMPTS: u32 = 3;
/// How long a connection may be silent until its peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The pause before the second attempt. It doubles for the third.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Connects to the upstreams.
#[derive(Clone, Debug)]
pub(crate) enum Connector {
    /// The URL is not https. This works on a host without certificates.
    Plain(Tcp),
    /// With the timeout of a handshake.
    Tls(HttpsConnector<Tcp>, Duration),
}

/// Opens TCP connections, directly or through a proxy of the environment.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    direct: HttpConnector,
    /// `None` for a peer that is never reached through a proxy.
    proxies: Option<Arc<Matcher>>,
}

/// Whether the proxies in `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are used. Never for this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxies {
    OfTheEnvironment,
    None,
}

impl Connector {
    pub(crate) fn new(
        tls: Option<ClientConfig>,
        proxies: Proxies,
        connect_timeout: Duration,
    ) -> Self {
        let mut direct = HttpConnector::new();
        direct.set_nodelay(true);
        // A stream of events has no idle timeout. Without this, one whose network is gone would stay open.
        direct.set_keepalive(Some(KEEPALIVE));
        direct.set_keepalive_interval(Some(KEEPALIVE));
        direct.set_keepalive_retries(Some(3));
        direct.set_connect_timeout(Some(connect_timeout));
        direct.enforce_http(false);
        let tcp = Tcp {
            direct,
            proxies: match proxies {
                Proxies::OfTheEnvironment => Some(Arc::new(Matcher::from_env())),
                Proxies::None => None,
            },
        };
        match tls {
            None => Self::Plain(tcp),
            Some(config) => {
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

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxies = self
            .proxies
            .as_ref()
            .filter(|_| !to.host().is_some_and(is_loopback));
        match proxies.and_then(|it| it.intercept(&to)) {
            None => {
                let connecting = self.direct.call(to);
                Box::pin(async move { Ok(connecting.await?) })
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
                if let Some(login) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(login.clone());
                }
                Box::pin(async move { Ok(tunnel.call(to).await?) })
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
            Self::Plain(tcp) => tcp.poll_ready(context),
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
    use rustls::crypto::ring;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let connector = Connector::new(Some(config), Proxies::None, patience);
        let began = tokio::time::Instant::now();
        let error = connector.oneshot(to.parse().unwrap()).await.unwrap_err();
        assert!(is_timeout(&*error), "{error}");
        assert_eq!(began.elapsed(), patience);
    }

    #[tokio::test]
    async fn loopback_is_never_reached_through_a_proxy() {
        let [peer, proxy] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
        let (peer, proxy) = (peer.await.unwrap(), proxy.await.unwrap());
        let proxies = Matcher::builder()
            .all(format!("http://{}", proxy.local_addr().unwrap()))
            .build();
        let tcp = Tcp {
            direct: HttpConnector::new(),
            proxies: Some(Arc::new(proxies)),
        };
        let to = format!("http://{}/", peer.local_addr().unwrap());
        let (connected, _) = tokio::join!(tcp.clone().oneshot(to.parse().unwrap()), peer.accept());
        assert!(connected.is_ok());

        let beyond = tcp.oneshot("http://203.0.113.1:8081/".parse().unwrap());
        let served = async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = [0; 32];
            stream.read_exact(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&head).into_owned()
        };
        let (connected, head) = tokio::join!(beyond, served);
        assert!(connected.is_ok());
        assert!(
            head.starts_with("CONNECT 203.0.113.1:8081 HTTP/1."),
            "{head}"
        );
    }
}
