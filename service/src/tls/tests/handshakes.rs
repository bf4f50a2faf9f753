//! Handshakes over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Ca, Files, SOON, listener};
use crate::client_address::TrustedProxies;
use crate::connection_limits::ConnectionLimits;
use crate::limits::{HANDSHAKE_TIMEOUT, IDLE_TIMEOUT};
use crate::listen::{bind, serve_tls};
use crate::shutdown::Shutdown;
use crate::tls::Callers;

struct Server {
    address: SocketAddr,
    ca: Ca,
    shutdown: Shutdown,
}

impl Server {
    /// Answers "done", to at most this many connections at once.
    async fn start(connections: usize) -> Self {
        let files = Files::new();
        let ca = Ca::new("ca");
        files.write_pair(&ca.issue(2020, 2090));
        let (certificate, key) = (files.path("cert"), files.path("key"));
        let settings = [
            ("EVERGREEN_TLS_CERT", certificate.as_str()),
            ("EVERGREEN_TLS_KEY", key.as_str()),
        ];
        let tls = listener(&settings).unwrap().unwrap();
        let tcp = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let limits = ConnectionLimits::new(connections, connections, TrustedProxies::default());
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", get(async || "done"));
        shutdown.spawn({
            let shutdown = shutdown.clone();
            async move {
                let tls = (&tls, Callers::Public);
                serve_tls(tcp, router, tls, limits, shutdown).await;
            }
        });
        Self {
            address,
            ca,
            shutdown,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Offers these protocols.
    async fn connect_tls(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.connect().await).await
    }
}

/// Reads until the server closes. An error counts as an end.
async fn rest(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn protocol_is_negotiated_and_http_1_needs_no_negotiation() {
    let server = Server::start(10).await;
    for (offered, expected) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut stream = server.connect_tls(offered).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, expected.map(str::as_bytes), "{offered:?}");
        if agreed == Some(b"h2") {
            continue;
        }
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let answer = timeout(SOON, rest(stream)).await.unwrap();
        assert!(answer.ends_with(b"done"), "{answer:?}");
    }
    assert!(server.connect_tls(&["spdy/3"]).await.is_err());
}

#[tokio::test]
async fn request_without_tls_gets_no_answer_in_http() {
    let server = Server::start(10).await;
    let mut stream = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = timeout(SOON, rest(stream)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

/// Nothing at all, the beginning of a record, and the beginning of a greeting.
#[tokio::test(start_paused = true)]
async fn unfinished_handshake_ends_at_its_timeout_and_frees_its_place() {
    for begun in [&b""[..], &[22, 3, 1], &[22, 3, 1, 1, 0, 1, 0, 0]] {
        let server = Server::start(1).await;
        let since = Instant::now();
        let mut stranger = server.connect().await;
        stranger.write_all(begun).await.unwrap();
        assert_eq!(rest(&mut stranger).await, b"");
        let waited = since.elapsed();
        let limit = HANDSHAKE_TIMEOUT..HANDSHAKE_TIMEOUT + Duration::from_secs(2);
        assert!(limit.contains(&waited), "{begun:?}: {waited:?}");
        assert!(HANDSHAKE_TIMEOUT < IDLE_TIMEOUT);
        server.connect_tls(&["http/1.1"]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_an_unfinished_handshake_after_a_second() {
    let server = Server::start(10).await;
    let mut stranger = server.connect().await;
    // The server runs on this thread. It has accepted after some polls.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let stopped = Instant::now();
    server.shutdown.start();
    assert!(server.shutdown.finished(SOON).await);
    assert!(stopped.elapsed() <= Duration::from_millis(1100));
    assert_eq!(rest(&mut stranger).await, b"");
}

#[tokio::test]
async fn response_arrives_after_an_unread_upload() {
    const LARGE: usize = 16 * 1024 * 1024;
    let server = Server::start(10).await;
    let mut stream = server.connect_tls(&[]).await.unwrap();
    let head = format!("PUT /no HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = timeout(SOON, stream.write_all(&vec![7; LARGE])).await;
    sent.unwrap().unwrap();
    stream.shutdown().await.unwrap();
    let answer = timeout(SOON, rest(stream)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}
