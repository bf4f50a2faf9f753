//! A TLS proxy between a broker and the sandbox that can simulate connection faults.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::port;
use crate::wait::{holds, until};

/// The current fault. Changing it closes all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    None,
    /// No listener.
    ConnectionRefused,
    /// The proxy does not use TLS.
    PlainText,
    /// The certificate is untrusted.
    UntrustedCertificate,
    /// Responses are sent at one byte per this duration.
    SlowResponse(Duration),
}

#[derive(Debug)]
pub struct TlsFaultProxy {
    pub url: String,
    port: u16,
    fault: watch::Sender<TlsFault>,
}

impl TlsFaultProxy {
    /// Starts a proxy for an `http://` URL, without a fault.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn of(url: &str) -> Self {
        let upstream = url.strip_prefix("http://").expect("an http URL").to_owned();
        let port = port::free();
        let (fault, faults) = watch::channel(TlsFault::None);
        tokio::spawn(serve(port, upstream, faults));
        let proxy = Self {
            url: format!("https://127.0.0.1:{port}"),
            port,
            fault,
        };
        proxy.set(TlsFault::None).await;
        proxy
    }

    /// The trusted certificate, for `SSL_CERT_FILE`.
    #[must_use]
    pub fn certificate() -> String {
        file_path("ghl.pem")
    }

    /// The key of that certificate, for other servers that act as GHL.
    #[must_use]
    pub fn key() -> String {
        file_path("ghl.key.pem")
    }

    /// Sets the fault. It is in effect when this returns.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn set(&self, fault: TlsFault) {
        self.fault.send_replace(fault);
        let should_listen = fault != TlsFault::ConnectionRefused;
        until("the fault", Duration::from_secs(5), || async {
            let connected = TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
            holds(connected == should_listen, connected)
        })
        .await;
    }
}

fn file_path(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls_fault_proxy");
    directory.join(name).display().to_string()
}

/// Retries while a connection that was just closed still holds the port.
async fn listen(port: u16) -> TcpListener {
    until("a free port", Duration::from_secs(20), || async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        listener.map_err(|error| error.to_string())
    })
    .await
}

/// Ends when the [`TlsFaultProxy`] is dropped.
async fn serve(port: u16, upstream: String, mut faults: watch::Receiver<TlsFault>) {
    loop {
        let fault = *faults.borrow_and_update();
        let mut connections = JoinSet::new();
        let listener = match fault {
            TlsFault::ConnectionRefused => None,
            TlsFault::None
            | TlsFault::PlainText
            | TlsFault::UntrustedCertificate
            | TlsFault::SlowResponse(_) => Some(listen(port).await),
        };
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = faults.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Ok((caller, _)) = accepted => {
                    connections.spawn(pass(caller, upstream.clone(), fault));
                }
            }
        }
    }
}

async fn pass(caller: TcpStream, upstream: String, fault: TlsFault) -> io::Result<()> {
    let pause = match fault {
        TlsFault::SlowResponse(pause) => Some(pause),
        TlsFault::None
        | TlsFault::ConnectionRefused
        | TlsFault::PlainText
        | TlsFault::UntrustedCertificate => None,
    };
    let tls = match fault {
        TlsFault::PlainText => {
            // As an HTTP server responds to a bad request.
            let mut caller = caller;
            return caller.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
        TlsFault::UntrustedCertificate => acceptor(UNTRUSTED),
        TlsFault::None | TlsFault::ConnectionRefused | TlsFault::SlowResponse(_) => acceptor(GHL),
    };
    let caller = tls.accept(caller).await?;
    let upstream = TcpStream::connect(upstream).await?;
    let (mut requests, mut to_caller) = tokio::io::split(caller);
    let (mut responses, mut to_upstream) = upstream.into_split();
    tokio::select! {
        passed = tokio::io::copy(&mut requests, &mut to_upstream) => passed.map(|_| ()),
        passed = response(&mut responses, &mut to_caller, pause) => passed,
    }
}

async fn response(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    pause: Option<Duration>,
) -> io::Result<()> {
    let Some(pause) = pause else {
        return tokio::io::copy(from, to).await.map(|_| ());
    };
    loop {
        let byte = from.read_u8().await?;
        to.write_all(&[byte]).await?;
        to.flush().await?;
        tokio::time::sleep(pause).await;
    }
}

/// A certificate for 127.0.0.1, and its key.
type Identity = (&'static [u8], &'static [u8]);
const GHL: Identity = (
    include_bytes!("tls_fault_proxy/ghl.pem"),
    include_bytes!("tls_fault_proxy/ghl.key.pem"),
);
const UNTRUSTED: Identity = (
    include_bytes!("tls_fault_proxy/untrusted.pem"),
    include_bytes!("tls_fault_proxy/untrusted.key.pem"),
);

fn acceptor((certificate, key): Identity) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}
