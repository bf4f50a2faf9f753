use std::convert::Infallible;
use std::future::pending;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::uri::Scheme;
use http::{Method, Uri};
use http_body_util::BodyExt;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::upstream::body::Fault;
use crate::upstream::headers::OutboundHeaders;

const IDLE_SWEEPS: u32 = 4;
const SOON: Duration = Duration::from_secs(10);
const LARGE: usize = 1024 * 1024;

/// A server that answers `/large` with a large body, `/early` before it reads, and echoes everything else.
async fn connect() -> (Sender, Origin) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
            let body = match request.uri().path() {
                "/large" => Body::from(vec![b'x'; LARGE]),
                "/early" => {
                    let unread = request.into_body();
                    tokio::spawn(async {
                        pending::<()>().await;
                        drop(unread)
                    });
                    Body::from("early")
                }
                _ => match request.into_body().collect().await {
                    Ok(body) => Body::from(body.to_bytes()),
                    Err(_) => Body::empty(),
                },
            };
            Ok::<_, Infallible>(Response::new(body))
        });
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), answer).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let sender = Sender::new(MaybeHttpsStream::Http(TokioIo::new(stream))).await;
    let origin = Origin {
        scheme: Scheme::HTTP,
        authority: address.to_string().parse().unwrap(),
    };
    (sender.unwrap(), origin)
}

async fn call(
    sender: &Sender,
    origin: &Origin,
    path: &'static str,
    body: Outgoing,
) -> Result<Response<Incoming>, Failed> {
    let outbound = Outbound {
        method: &Method::POST,
        uri: &Uri::from_static(path),
        headers: OutboundHeaders::ToBroker(&HeaderMap::new()),
    };
    timeout(SOON, sender.clone().call(origin, outbound, body))
        .await
        .unwrap()
}

#[tokio::test]
async fn unread_responses_do_not_block_other_streams() {
    let (sender, origin) = connect().await;
    let large = (0..50).map(|_| call(&sender, &origin, "/large", Outgoing::empty()));
    let unread: Vec<_> = join_all(large)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let body = Outgoing::Held(Bytes::from_static(b"little"));
    let answer = call(&sender, &origin, "/", body).await.unwrap();
    let read = timeout(SOON, answer.into_body().collect()).await.unwrap();
    assert_eq!(read.unwrap().to_bytes(), "little");
    for answer in unread {
        let read = timeout(SOON, answer.into_body().collect()).await.unwrap();
        assert_eq!(read.unwrap().to_bytes().len(), LARGE);
    }
}

#[tokio::test]
async fn connection_is_shared_up_to_its_call_limit_and_kept_while_used() {
    let (sender, origin) = connect().await;
    let mut shared = Shared::default();
    shared.keep(&sender);
    shared.keep(&sender);
    assert_eq!(shared.connections.len(), 1, "the first is available");
    drop(sender);
    let mut calls: Vec<Sender> = std::iter::from_fn(|| shared.available()).collect();
    assert_eq!(calls.len(), CALLS);
    let last = calls.pop().unwrap();
    drop(calls);
    let answer = call(&last, &origin, "/large", Outgoing::empty())
        .await
        .unwrap();
    drop(last);
    for _ in 0..2 * IDLE_SWEEPS {
        shared.sweep(IDLE_SWEEPS);
    }
    assert!(
        shared.available().is_some(),
        "its body still counts as a call"
    );
    drop(answer);
    for _ in 0..IDLE_SWEEPS {
        assert!(shared.available().is_some());
        shared.sweep(IDLE_SWEEPS);
    }
    assert!(shared.available().is_none());
}

#[tokio::test]
async fn upload_counts_as_a_call_after_its_response_ended() {
    let (sender, origin) = connect().await;
    let endless = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
    let upload = Outgoing::stream(endless, 1);
    let answer = call(&sender, &origin, "/early", upload).await.unwrap();
    let early = timeout(SOON, answer.into_body().collect()).await.unwrap();
    assert_eq!(early.unwrap().to_bytes(), "early");
    assert_eq!(sender.calls(), 1);
}

#[tokio::test]
async fn body_fault_is_reported_over_http2() {
    let (sender, origin) = connect().await;
    let parts = ["12345", "6789"].map(Ok::<_, axum::Error>);
    let body = Outgoing::stream(Body::from_stream(stream::iter(parts)), 8);
    let progress = body.progress().unwrap();
    assert!(call(&sender, &origin, "/", body).await.is_err());
    assert_eq!(progress.fault(), Some(Fault::TooLarge { limit: 8 }));
}
