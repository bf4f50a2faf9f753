//! A test server whose behaviour depends on the path, and its clients.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, StatusCode};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{BUFFERED, LARGE, SOON};
use crate::connection_limits::ConnectionLimits;
use crate::handler::Handler;
use crate::limits::IDLE_TIMEOUT;
use crate::listen::{bind, serve};
use crate::shutdown::Shutdown;

/// Chooses its behaviour by the path.
#[derive(Clone, Default)]
struct PathHandler {
    entered: Arc<Entered>,
}

#[derive(Default)]
pub(super) struct Entered {
    /// Requests that have begun to hang.
    pub(super) hanging: Count,
    /// Hanging requests that were dropped.
    pub(super) dropped: Count,
}

pub(super) struct Count(Semaphore);

impl Default for Count {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Count {
    pub(super) async fn wait_for_one(&self) {
        let one = timeout(SOON, self.0.acquire()).await;
        one.unwrap().unwrap().forget();
    }
}

impl Handler for PathHandler {
    async fn handle(&self, request: Request<Body>, _: IpAddr) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let chunks = |chunks: &'static [&'static str]| {
            let chunks = chunks
                .iter()
                .map(|it| Ok::<_, axum::Error>(Bytes::from(*it)));
            Response::new(Body::from_stream(stream::iter(chunks)))
        };
        let mut response = match path.as_str() {
            "/echo" => match to_bytes(request.into_body(), usize::MAX).await {
                Ok(body) => Response::new(Body::from(body)),
                Err(_) => return status(422),
            },
            "/hang" => {
                struct Dropped(Arc<Entered>);
                impl Drop for Dropped {
                    fn drop(&mut self) {
                        self.0.dropped.0.add_permits(1);
                    }
                }
                let _dropped = Dropped(Arc::clone(&self.entered));
                self.entered.hanging.0.add_permits(1);
                pending().await
            }
            "/slow" => {
                sleep(IDLE_TIMEOUT * 2).await;
                Response::new(Body::from("at last"))
            }
            "/chunks" => chunks(&["ab", "", "cde"]),
            "/short" => {
                let mut short = chunks(&["ab"]);
                short
                    .headers_mut()
                    .insert("content-length", "5".parse().unwrap());
                short
            }
            "/fails" => {
                let failing = [Ok(Bytes::from("ab")), Err(io::Error::other("failed"))];
                Response::new(Body::from_stream(stream::iter(failing)))
            }
            "/nothing" => status(204),
            "/unchanged" => {
                let mut unchanged = status(304);
                let headers = unchanged.headers_mut();
                headers.insert("content-length", "7".parse().unwrap());
                unchanged
            }
            "/some" => Response::new(Body::from(vec![b'x'; BUFFERED])),
            "/large" => Response::new(Body::from(vec![b'x'; LARGE])),
            // Does not read the body.
            _ => Response::new(Body::from(path)),
        };
        let date = "Thu, 01 Jan 1970 00:00:00 GMT".parse().unwrap();
        response.headers_mut().insert("date", date);
        response
    }
}

fn status(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(super) struct Server {
    address: SocketAddr,
    pub(super) entered: Arc<Entered>,
    pub(super) shutdown: Shutdown,
}

impl Server {
    pub(super) async fn start() -> Self {
        let shutdown = Shutdown::new();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = PathHandler::default();
        let entered = Arc::clone(&handler.entered);
        shutdown.spawn(serve(
            listener,
            handler,
            ConnectionLimits::none(),
            shutdown.clone(),
        ));
        Self {
            address,
            entered,
            shutdown,
        }
    }

    pub(super) async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until the server closes the connection.
pub(super) async fn read(mut stream: TcpStream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The same, without `Date` headers.
pub(super) async fn rest(stream: TcpStream) -> String {
    let text = timeout(SOON, read(stream)).await.unwrap().unwrap();
    text.replace("date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "")
}
