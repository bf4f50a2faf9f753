//! TLS of the listeners.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::authorities::roots;
use super::files::{Contents, Files, Names, Problem, Unusable};
use super::identity::{Identity, certificates};
use super::reload::{InUse, Loaded, Reloaded};
use super::validity::Date;
use crate::config::Settings;
use crate::limits::{HANDSHAKE_TIMEOUT, STOP_GRACE};
use crate::shutdown::Shutdown;

const NAMES: Names = Names {
    certificate: "EVERGREEN_TLS_CERT",
    key: "EVERGREEN_TLS_KEY",
    authorities: Some("EVERGREEN_TLS_CLIENT_CA"),
};

/// How long a client's bytes are discarded after a failed handshake. Closing a socket with unread bytes resets the
/// connection, and the client would lose the alert that says why.
const LINGER: Duration = Duration::from_secs(1);

/// When the certificate of the listeners, or one of its chain, expires.
const EXPIRY: &str = "evergreen_tls_certificate_expiry_timestamp_seconds";

/// The certificate of the listeners of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct ListenerTls(Arc<Reloaded<Configs>>);

/// The parties that a listener is for, and so whether they need a certificate once there are CAs for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Customers' browsers, GHL and callers. Nobody is asked for a certificate.
    Public,
    /// Our own processes. Without a certificate the handshake fails.
    Internal,
    /// As [`Callers::Internal`], and those who check the health, such as Kubernetes, which has no certificate. It may
    /// only ask for `/livez` and `/readyz`.
    InternalAndProbes,
}

/// The requests that a connection may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Everything,
    /// `/livez` and `/readyz`, for want of a certificate.
    Health,
}

/// One certificate, with each way to ask for one of the client.
#[derive(Debug)]
struct Configs {
    asks_nobody: Arc<ServerConfig>,
    /// `None` without CAs for clients.
    asks: Option<Asks>,
}

#[derive(Debug)]
struct Asks {
    requires: Arc<ServerConfig>,
    accepts_none: Arc<ServerConfig>,
}

/// Makes the handshakes of one listener. Clones share the certificate.
#[derive(Debug, Clone)]
pub(crate) struct TlsAcceptor {
    current: watch::Receiver<Arc<InUse<Configs>>>,
    callers: Callers,
}

impl ListenerTls {
    /// Reads `EVERGREEN_TLS_CERT`, `EVERGREEN_TLS_KEY` and `EVERGREEN_TLS_CLIENT_CA`. `None` if they are unset.
    /// Mistakes are collected in `settings`.
    pub fn read(settings: &mut Settings<'_>) -> Option<Self> {
        Reloaded::read(settings, NAMES, load).map(Self)
    }

    /// Looks at the files now, and not only every two seconds.
    pub fn look_now(&self) {
        self.0.look_now();
    }

    /// Follows changes of the files until the shutdown starts.
    pub async fn keep_current(self, shutdown: Shutdown) {
        metrics::describe_gauge!(
            EXPIRY,
            metrics::Unit::Seconds,
            "When the certificate of the listeners expires, in seconds since 1970"
        );
        // Seconds fit into 52 bits for a long time.
        self.0
            .run(&shutdown, |date| gauge!(EXPIRY).set(date.as_secs() as f64))
            .await;
    }

    /// Which of the loaded pairs is in use.
    #[cfg(test)]
    pub(super) fn loaded(&self) -> usize {
        Arc::as_ptr(&self.0.current().borrow()).addr()
    }

    pub(crate) fn acceptor(&self, callers: Callers) -> TlsAcceptor {
        TlsAcceptor {
            current: self.0.current(),
            callers,
        }
    }
}

fn load(files: &Files, contents: &Contents, now: Date) -> Result<Loaded<Configs>, Unusable> {
    let Identity { certified, expires } = Identity::new(files.names, contents, now)?;
    let certified = Arc::new(certified);
    let asks = match (files.names.authorities, &contents.authorities) {
        (Some(setting), Some(pem)) => Some(Asks::new(setting, pem, &certified)?),
        (Some(_) | None, _) => None,
    };
    Ok(Loaded {
        value: Configs {
            asks_nobody: config(&certified, None)?,
            asks,
        },
        expires,
    })
}

impl Asks {
    fn new(
        setting: &'static str,
        pem: &[u8],
        certified: &Arc<CertifiedKey>,
    ) -> Result<Self, Unusable> {
        let unusable = |problem| Unusable { setting, problem };
        let trusted = Arc::new(roots(setting, certificates(pem).map_err(unusable)?)?);
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(trusted, provider);
        let other = |error: rustls::server::VerifierBuilderError| {
            unusable(Problem::Other(error.to_string()))
        };
        let requires = builder.clone().build().map_err(other)?;
        let accepts_none = builder.allow_unauthenticated().build().map_err(other)?;
        Ok(Self {
            requires: config(certified, Some(requires))?,
            accepts_none: config(certified, Some(accepts_none))?,
        })
    }
}

/// Each has its own tickets: a session begun without a certificate is not resumed where one is required, nor with CAs
/// that were replaced.
fn config(
    certified: &Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, Unusable> {
    let other = |error: rustls::Error| Unusable {
        setting: NAMES.certificate,
        problem: Problem::Other(error.to_string()),
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(other)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let certificate = SingleCertAndKey::from(Arc::clone(certified));
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // They take no memory here, unlike sessions.
    config.ticketer = ring::Ticketer::new().map_err(other)?;
    Ok(Arc::new(config))
}

impl TlsAcceptor {
    /// Makes the handshake. `None` if it fails, or takes too long. After `stop` it has as long as a connection without
    /// a request.
    pub(crate) async fn handshake(
        &self,
        tcp: TcpStream,
        stop: &CancellationToken,
    ) -> Option<(Box<TlsStream<TcpStream>>, Access)> {
        let stopped = async {
            stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            accepted = self.accept(tcp) => accepted,
            () = sleep(HANDSHAKE_TIMEOUT) => {
                debug!("a TLS handshake took too long");
                None
            }
            () = stopped => None,
        }
    }

    async fn accept(&self, tcp: TcpStream) -> Option<(Box<TlsStream<TcpStream>>, Access)> {
        let (config, without_certificate) = self.config();
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        match acceptor.accept(tcp).into_fallible().await {
            Ok(stream) => {
                let access = match stream.get_ref().1.peer_certificates() {
                    Some(_) => Access::Everything,
                    None => without_certificate,
                };
                Some((Box::new(stream), access))
            }
            Err((reason, tcp)) => {
                debug!(%reason, "a TLS handshake failed");
                let _ = timeout(LINGER, discard(tcp)).await;
                None
            }
        }
    }

    /// The configuration of a new connection, and what it may be used for without a certificate.
    fn config(&self) -> (Arc<ServerConfig>, Access) {
        let current = self.current.borrow();
        let configs = &current.loaded.value;
        let (config, without_certificate) = match (&configs.asks, self.callers) {
            (None, _) | (Some(_), Callers::Public) => (&configs.asks_nobody, Access::Everything),
            // Without one the handshake fails.
            (Some(asks), Callers::Internal) => (&asks.requires, Access::Health),
            (Some(asks), Callers::InternalAndProbes) => (&asks.accepts_none, Access::Health),
        };
        (Arc::clone(config), without_certificate)
    }
}

/// Sends a FIN, then reads until the client has closed, too.
async fn discard(mut tcp: TcpStream) -> io::Result<()> {
    tcp.shutdown().await?;
    copy(&mut tcp, &mut sink()).await?;
    Ok(())
}
