//! Requests, wherever on their way they are cut into pieces, and what a connection makes of them.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response};
use bytes::BytesMut;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::request::Head;
use super::*;
use crate::listen::{HEAD_TIMEOUT, Handler, IDLE_TIMEOUT, bind, serve};
use crate::shutdown::Shutdown;

const SOON: Duration = Duration::from_secs(10);
/// As much as lies between a server that has sent it and a caller that has not read it.
const SOME: usize = 200 * 1024;
/// More than that.
const LARGE: usize = 16 * 1024 * 1024;

/// What is understood of a request, and what follows it.
fn understood<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let (mut read, mut names) = (BytesMut::new(), Names::default());
    for piece in pieces {
        read.extend_from_slice(piece);
        match Head::take(&mut read, &mut names) {
            Ok(None) => {}
            Err(malformed) => return format!("{} {malformed}", malformed.status().as_u16()),
            Ok(Some(head)) => {
                let request = head.request;
                let mut seen = format!("{} {}", request.method(), request.uri());
                for (name, value) in request.headers() {
                    seen += &format!(" {name}={}", value.to_str().unwrap());
                }
                return format!("{seen}, {:?} kept={}", head.framing, head.is_kept);
            }
        }
    }
    "too short".to_owned()
}

/// The same in one piece, in two of all lengths, and byte by byte.
fn outcome(request: &str) -> String {
    let request = request.as_bytes();
    let whole = understood([request]);
    for cut in 0..=request.len() {
        let (start, end) = request.split_at(cut);
        assert_eq!(understood([start, end]), whole, "cut at {cut}");
    }
    assert_eq!(understood(request.chunks(1)), whole);
    whole
}

#[test]
fn requests_are_what_they_say() {
    for (request, expected) in [
        (
            "GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\n\r\n",
            "GET /a?b host=h x-a=1 x-a=2, Length(0) kept=true",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / host=h content-length=3, Length(3) kept=true",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST / host=h transfer-encoding=Chunked, Chunks(Size) kept=true",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n",
            "GET / host=h connection=x, Close, Length(0) kept=false",
        ),
        ("GET / HTTP/1.0\r\n\r\n", "GET /, Length(0) kept=false"),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET / connection=keep-alive, Length(0) kept=true",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "OPTIONS * host=h, Length(0) kept=true",
        ),
        (
            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
            "CONNECT h:443 host=h:443, Length(0) kept=true",
        ),
        (
            "\r\nGET http://x/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http://x/a host=h, Length(0) kept=true",
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\n", "too short"),
    ] {
        assert_eq!(outcome(request), expected, "{request}");
    }
}

#[test]
fn what_could_be_understood_in_two_ways_is_refused() {
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n");
    for (request, expected) in [
        (
            post("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            Malformed::LengthAndChunks,
        ),
        (
            post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            Malformed::LengthAndChunks,
        ),
        (
            post("Content-Length: 5\r\nContent-Length: 6"),
            Malformed::Length,
        ),
        (post("Content-Length: 5, 5"), Malformed::Length),
        (post("Content-Length: +5"), Malformed::Length),
        (post("Content-Length:"), Malformed::Length),
        (
            post("Content-Length: 99999999999999999999"),
            Malformed::Length,
        ),
        (post("Transfer-Encoding: gzip, chunked"), Malformed::Coding),
        (
            post("Transfer-Encoding: chunked, gzip"),
            Malformed::Unending,
        ),
        (post("Transfer-Encoding: identity"), Malformed::Unending),
        (post("Transfer-Encoding: xchunked"), Malformed::Unending),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Malformed::Unending,
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Malformed::Unending,
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), Malformed::Host),
        (post("Host: h"), Malformed::Host),
        (
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            Malformed::Target,
        ),
        (
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            Malformed::Target,
        ),
        (
            "CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            Malformed::Target,
        ),
        (
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n".to_owned(),
            Malformed::Head(httparse::Error::Version),
        ),
        (
            post("Content-Length : 5"),
            Malformed::Head(httparse::Error::HeaderName),
        ),
        (
            post("X-A: 1\r\n folded"),
            Malformed::Head(httparse::Error::HeaderName),
        ),
        (
            post("X-A: 1\rX-B: 2"),
            Malformed::Head(httparse::Error::HeaderValue),
        ),
    ] {
        let refused = format!("{} {expected}", expected.status().as_u16());
        assert_eq!(outcome(&request), refused, "{request}");
    }
    let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(BUFFER_BYTES));
    let refused = understood(endless.as_bytes().chunks(1024));
    assert!(refused.starts_with("431 its head is longer"), "{refused}");
    let many = post(&"X-A: 1\r\n".repeat(MAX_HEADERS));
    let refused = understood([many.as_bytes()]);
    assert!(refused.starts_with("431 "), "{refused}");
}

/// Does what the path says.
#[derive(Clone, Default)]
struct Obedient {
    entered: Arc<Entered>,
}

#[derive(Default)]
struct Entered {
    /// One for each request that has begun to hang.
    hanging: Count,
    /// And for each that was let go of.
    dropped: Count,
}

struct Count(Semaphore);

impl Default for Count {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Count {
    async fn wait_for_one(&self) {
        let one = timeout(SOON, self.0.acquire()).await;
        one.unwrap().unwrap().forget();
    }
}

impl Handler for Obedient {
    async fn handle(&self, request: Request<Body>) -> Response<Body> {
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
            "/broken" => {
                let broken = Err::<Bytes, _>(std::io::Error::other("broken"));
                Response::new(Body::from_stream(stream::iter([broken])))
            }
            "/nothing" => status(204),
            "/unchanged" => {
                let mut unchanged = status(304);
                let headers = unchanged.headers_mut();
                headers.insert("content-length", "7".parse().unwrap());
                unchanged
            }
            "/some" => Response::new(Body::from(vec![b'x'; SOME])),
            "/large" => Response::new(Body::from(vec![b'x'; LARGE])),
            // Without a look at the body.
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

struct Server {
    address: SocketAddr,
    entered: Arc<Entered>,
    _shutdown: Shutdown,
}

impl Server {
    async fn start() -> Self {
        let shutdown = Shutdown::new();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Obedient::default();
        let entered = Arc::clone(&handler.entered);
        shutdown.spawn(serve(listener, handler, shutdown.clone()));
        Self {
            address,
            entered,
            _shutdown: shutdown,
        }
    }

    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }
}

/// What arrives until the server closes the connection, without dates.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    timeout(SOON, read).await.unwrap().unwrap();
    text.replace("date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "")
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const LAST_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n/last";

#[tokio::test]
async fn answers_end_where_they_say_and_the_next_follows() {
    let server = Server::start().await;
    for (request, answer) in [
        (
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 OK\r\ncontent-length: 2\r\n\r\n/a",
        ),
        ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK\r\n\r\n"),
        (
            "GET /chunks HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
            "204 No Content\r\n\r\n",
        ),
        (
            "GET /unchanged HTTP/1.1\r\nHost: h\r\n\r\n",
            "304 Not Modified\r\ncontent-length: 7\r\n\r\n",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n1\r\nc\r\n0\r\nX-T: 1\r\n\r\n",
            "200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
        // A body that nobody wants, and that is there.
        (
            "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "200 OK\r\ncontent-length: 2\r\n\r\n/b",
        ),
        (
            "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n/a",
        ),
    ] {
        let stream = server.send(&format!("{request}{request}{LAST}")).await;
        let expected = format!("HTTP/1.1 {answer}HTTP/1.1 {answer}{LAST_ANSWER}");
        assert_eq!(rest(stream).await, expected, "{request}");
    }
}

#[tokio::test]
async fn answers_that_cannot_end_otherwise_end_with_the_connection() {
    let server = Server::start().await;
    let stream = server.send("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = rest(stream.await).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde");
    let stream = server.send("GET /broken HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let answer = rest(stream.await).await;
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    let short = format!("GET /short HTTP/1.1\r\nHost: h\r\n\r\n{LAST}");
    let answer = rest(server.send(&short).await).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab");
}

#[tokio::test]
async fn nothing_is_taken_after_what_is_no_request() {
    let server = Server::start().await;
    for (request, expected) in [
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 422 Unprocessable",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK",
        ),
    ] {
        let mut stream = server.send(&format!("{request}{LAST}")).await;
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(!answer.contains("/last"), "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong() {
    let server = Server::start().await;
    let mut stream = server.send("GET / HTTP/1.1\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    let body = r#"{"statusCode":400,"message":"That is no request in HTTP/1.1: it names no host, or several","error":"Bad Request"}"#;
    assert!(answer.ends_with(body), "{answer}");
}

#[tokio::test]
async fn who_asks_first_is_told_when_its_body_is_wanted() {
    let server = Server::start().await;
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\
                Connection: close\r\n\r\n";
    let mut stream = server.send(head).await;
    let mut interim = [0; 25];
    timeout(SOON, stream.read_exact(&mut interim))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert!(rest(stream).await.ends_with("\r\n\r\nabc"));

    // And is neither told nor waited for, where it is not.
    let asked = Instant::now();
    let stream = server.send(&head.replace("/echo", "/refused")).await;
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(asked.elapsed() < connection::PATIENCE / 2);
}

#[tokio::test]
async fn who_sends_all_before_reading_gets_the_answer() {
    let server = Server::start().await;
    for path in ["/no", "/no", "/no", "/large"] {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n");
        let mut stream = server.send(&head).await;
        let body = vec![7; LARGE];
        let sent = timeout(SOON, stream.write_all(&body)).await;
        sent.unwrap().unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nconnection: close"), "{head}");
        assert!(body == path || body.len() == LARGE, "{}", body.len());
    }
}

#[tokio::test]
async fn for_a_caller_who_is_gone_nothing_goes_on() {
    let server = Server::start().await;
    for sent in [
        "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n",
        // What it wanted besides does not hide its end.
        "GET /hang HTTP/1.1\r\nHost: h\r\n\r\nGET /more HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let stream = server.send(sent).await;
        server.entered.hanging.wait_for_one().await;
        drop(stream);
        server.entered.dropped.wait_for_one().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_for_long_is_left() {
    let server = Server::start().await;
    for (begun, patience, expected) in [
        ("", IDLE_TIMEOUT, ""),
        ("GET / HT", HEAD_TIMEOUT, "HTTP/1.1 408 Request Timeout\r\n"),
    ] {
        let since = Instant::now();
        let mut stream = server.send(begun).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{answer}");
        let waited = since.elapsed();
        assert!((patience..patience + SOON).contains(&waited), "{waited:?}");
    }
    // Not so who waits for an answer; and the time begins anew after it.
    let since = Instant::now();
    let mut stream = server.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("at last"), "{answer}");
    let waited = since.elapsed();
    assert!(
        (IDLE_TIMEOUT * 3..IDLE_TIMEOUT * 3 + SOON).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn http2_is_known_by_its_first_bytes() {
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let server = Server::start().await;
    for cut in [1, 10, 16, PREFACE.len()] {
        let (start, end) = PREFACE.split_at(cut);
        let mut stream = server.send(start).await;
        tokio::task::yield_now().await;
        // And an empty frame of SETTINGS.
        let frame = [end.as_bytes(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        stream.write_all(&frame).await.unwrap();
        let mut answer = [0; 9];
        timeout(SOON, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer[3], 4, "SETTINGS: {answer:?}");
    }
    let late = format!("GET /a HTTP/1.1\r\nHost: h\r\n\r\n{PREFACE}");
    let mut stream = server.send(&late).await;
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    assert!(
        answer.contains("/aHTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

/// Whatever its caller expects, and however late its answer.
#[tokio::test]
async fn who_sends_after_waiting_in_vain_gets_the_answer() {
    let server = Server::start().await;
    let head = format!(
        "PUT /no HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\nExpect: 100-continue\r\n\r\n"
    );
    for begun in [
        &head[..],
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        let mut stream = server.send(begun).await;
        let body = vec![7; LARGE];
        let sent = timeout(SOON, stream.write_all(&body)).await;
        sent.unwrap().unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_comes_after_the_last_request_takes_no_answer_with_it() {
    let server = Server::start().await;
    for _ in 0..20 {
        let mut stream = server.send("GET /some HTTP/1.0\r\n\r\n").await;
        let mut start = [0; 1000];
        for _ in 0..10 {
            stream.read_exact(&mut start).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(b"\r\n").await.unwrap();
        assert!(rest(stream).await.len() > SOME - 10 * 1000);
    }
}

#[tokio::test]
async fn drops_of_a_body_share_their_room() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut caller = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (reader, _writer) = listener.accept().await.unwrap().0.into_split();
    let mut inlet = inlet::Inlet::new(reader);
    let mut blocks = std::collections::HashSet::new();
    for drops in 0..1000 {
        caller.write_all(b"x").await.unwrap();
        std::future::poll_fn(|context| inlet.poll_read(context))
            .await
            .unwrap();
        let drop = inlet.read.split().freeze();
        blocks.insert(drop.as_ptr().addr() - drops);
    }
    assert_eq!(blocks.len(), 1, "one after another in one block");
}
