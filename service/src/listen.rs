//! Listens for HTTP/1.1 and HTTP/2, with or without TLS, and serves until the shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::connection_limits::{ConnectionLimits, Place};
use crate::handler::Handler;
use crate::http::Server;
use crate::shutdown::Shutdown;
use crate::tls::{Callers, ListenerTls, TlsAcceptor};

/// How long sent bytes may stay unread or unacknowledged.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may be idle before its peer is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How often a log line says that a limit closes connections.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before accepting again when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}{}", advice(*address, source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The error of the system.
    pub source: io::Error,
}

/// Binds the address. Port 0 takes a free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError { address, source })
}

/// Serves until the shutdown starts. Then it accepts no more connections, finishes the requests in flight, closes
/// idle connections, and returns. Spawn it as tracked work, so that [`Shutdown::finished`] bounds how long that takes.
pub async fn serve(
    listener: TcpListener,
    handler: impl Handler,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    serve_on(listener, Connections::new(handler, None), limits, shutdown).await;
}

/// As [`serve`], over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    handler: impl Handler,
    (tls, callers): (&ListenerTls, Callers),
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    let connections = Connections::new(handler, Some(tls.acceptor(callers)));
    serve_on(listener, connections, limits, shutdown).await;
}

async fn serve_on<H: Handler>(
    listener: TcpListener,
    connections: Connections<H>,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    accept(listener, &limits, &shutdown, |accepted| {
        connections.serve(accepted)
    })
    .await;
    connections.finished().await;
}

/// A connection, and its place within the limits.
#[derive(Debug)]
pub(crate) struct Accepted<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) place: Place,
}

/// Accepts connections and hands them over, until the shutdown starts. Those beyond the limits are closed.
pub(crate) async fn accept(
    listener: TcpListener,
    limits: &ConnectionLimits,
    shutdown: &Shutdown,
    mut hand_over: impl FnMut(Accepted),
) {
    let mut warned_at: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.started() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match limits.admit(peer.ip().to_canonical()) {
                Ok(place) => {
                    tune(&stream);
                    hand_over(Accepted { stream, place });
                }
                Err(exceeded) => {
                    if warned_at.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
                        warn!(%exceeded, peer = %peer.ip(), "a connection was closed");
                        warned_at = Some(Instant::now());
                    }
                }
            },
            Err(reason) if gone_before_accepted(&reason) => {}
            Err(reason) => {
                warn!(%reason, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections of one runtime.
pub(crate) struct Connections<H> {
    server: Arc<Server<H>>,
    stop: CancellationToken,
    open: TaskTracker,
}

impl<H: Handler> Connections<H> {
    pub(crate) fn new(handler: H, tls: Option<TlsAcceptor>) -> Self {
        Self {
            server: Arc::new(Server::new(handler, tls)),
            stop: CancellationToken::new(),
            open: TaskTracker::new(),
        }
    }

    pub(crate) fn serve(&self, accepted: Accepted) {
        tokio::spawn(self.connection(accepted));
    }

    pub(crate) fn connection(
        &self,
        accepted: Accepted,
    ) -> impl Future<Output = ()> + Send + use<H> {
        let Accepted { stream, place } = accepted;
        let server = Arc::clone(&self.server);
        let stop = self.stop.clone();
        let is_open = self.open.token();
        // Boxed, since the tasks around it would otherwise store it twice.
        Box::pin(async move {
            let _open = (is_open, place);
            server.serve(stream, &stop).await;
        })
    }

    /// Finishes the requests in flight, and closes idle connections.
    pub(crate) async fn finished(self) {
        self.stop.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

/// Responses are written whole, so waiting to fill a packet would only add latency. A user timeout closes connections
/// whose peer does not read.
fn tune(stream: &TcpStream) {
    if let Err(reason) = stream.set_nodelay(true) {
        debug!(%reason, "cannot set TCP_NODELAY");
    }
    // A stream of events has no idle timeout. Without this, one whose peer is gone would stay open.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    if let Err(reason) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        debug!(%reason, "cannot set SO_KEEPALIVE");
    }
    #[cfg(target_os = "linux")]
    if let Err(reason) = SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT)) {
        debug!(%reason, "cannot set TCP_USER_TIMEOUT");
    }
}

fn gone_before_accepted(reason: &io::Error) -> bool {
    matches!(
        reason.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Advice to the operator, if the cause alone does not suffice.
fn advice(address: SocketAddr, reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!(", another process does (`ss -ltnp 'sport = :{port}'` names it)")
        }
        io::ErrorKind::AddrNotAvailable => ", which is not an address of this host".to_owned(),
        io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const LOCAL: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn start(router: Router, shutdown: &Shutdown) -> (SocketAddr, JoinHandle<()>) {
        let listener = bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        (
            address,
            shutdown.spawn(serve(
                listener,
                router,
                ConnectionLimits::none(),
                shutdown.clone(),
            )),
        )
    }

    async fn request(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Reads until the server closes the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        timeout(SOON, stream.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        text
    }

    #[tokio::test]
    async fn shutdown_finishes_requests_in_flight_and_accepts_no_more() {
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = Router::new().route("/", {
            let (entered, release) = (Arc::clone(&entered), Arc::clone(&release));
            get(async move || {
                entered.notify_one();
                release.notified().await;
                "finished"
            })
        });
        let shutdown = Shutdown::new();
        let (address, server) = start(router, &shutdown).await;
        let idle = TcpStream::connect(address).await.unwrap();
        let busy = request(address, "/").await;
        timeout(SOON, entered.notified()).await.unwrap();

        shutdown.start();
        assert_eq!(rest(idle).await, "");
        assert!(TcpStream::connect(address).await.is_err());
        assert!(!server.is_finished());
        release.notify_one();
        let answer = rest(busy).await;
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("finished"), "{answer}");
        assert!(shutdown.finished(SOON).await);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn bind_error_names_a_taken_address() {
        let first = bind(LOCAL).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address}, another process does")),
            "{error}"
        );
    }
}
