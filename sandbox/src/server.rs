//! Accepts connections, and closes one without a response if a fault requires it.
//!
//! HTTP is hyper's here, so that the HTTP of the gateway and the broker is tested against another
//! implementation.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use service::limits::BUFFER_BYTES;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::debug;

use crate::lingering_close;

/// How long calls in flight may take after shutdown begins. A fault can hold one for hours.
const DRAIN: Duration = Duration::from_secs(2);

/// The pause after a failure to accept, which usually is a lack of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 until `shutdown`, then lets calls in flight finish for a moment.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let connections = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(connection(stream, router.clone(), &connections));
                }
                Err(error) => {
                    debug!(%error, "could not accept");
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    drop(listener);
    // Dropping the tasks aborts the remaining ones.
    let _ = tokio::time::timeout(DRAIN, connections.shutdown()).await;
    Ok(())
}

fn connection(
    stream: TcpStream,
    router: Router,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    // This fails only if the connection is already closed.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.clone().oneshot(lingering_close::drain_body(request));
        async move {
            let response: Result<Response, Infallible> = answer.await;
            match response {
                Ok(response) if response.extensions().get::<Closes>().is_some() => Err(Closes),
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(BUFFER_BYTES);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = connections.watch(connection);
    async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection ended");
        }
    }
}

/// A response that is never sent: the connection is closed instead.
pub(crate) fn closes_connection() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(Closes);
    response
}

/// Marks such a response. It is also the error that makes hyper close the connection.
#[derive(Clone, Copy, Debug)]
struct Closes;

impl fmt::Display for Closes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("closed without a response because of a fault")
    }
}

impl std::error::Error for Closes {}
