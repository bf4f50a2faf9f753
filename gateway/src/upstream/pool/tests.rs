use std::io;

use futures_util::stream;
use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::upstream::body::BodyStreamError;
use crate::upstream::cause::cause;
use crate::upstream::connector::Proxies;
use crate::upstream::headers::OutboundHeaders;

const SOON: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The connections that a test server accepts, in order.
struct ServerConnections(mpsc::UnboundedReceiver<TcpStream>);

impl ServerConnections {
    async fn next(&mut self) -> Server {
        let next = timeout(SOON, self.0.recv()).await;
        Server(next.unwrap().unwrap())
    }

    fn has_no_more(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// The server's end of a connection.
struct Server(TcpStream);

impl Server {
    async fn head(&mut self) -> String {
        self.until(b"\r\n\r\n").await
    }

    async fn until(&mut self, end: &[u8]) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(timeout(SOON, self.0.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(read).unwrap()
    }

    async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads a request's head and sends the response.
    async fn answer(&mut self, answer: &str) -> String {
        let head = self.head().await;
        self.send(answer).await;
        head
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match timeout(SOON, self.0.read(&mut rest)).await.unwrap() {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    }
}

async fn start() -> (Arc<Pool>, ServerConnections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin {
        scheme: Scheme::HTTP,
        authority: listener.local_addr().unwrap().to_string().parse().unwrap(),
    };
    let (hand_over, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            hand_over.send(stream).unwrap();
        }
    });
    let pool = Pool::new(Connector::new(None, Proxies::None, SOON), origin);
    (pool, ServerConnections(connections))
}

async fn send(
    pool: &Arc<Pool>,
    method: Method,
    body: Outgoing,
) -> Result<Response<Incoming>, NoResponse> {
    let request = Outbound {
        method: &method,
        uri: &Uri::from_static("/x?y=1"),
        headers: OutboundHeaders::ToBroker(&HeaderMap::new()),
    };
    timeout(SOON, pool.send(request, body)).await.unwrap()
}

async fn get(pool: &Arc<Pool>) -> Result<Response<Incoming>, NoResponse> {
    send(pool, Method::GET, Outgoing::empty()).await
}

async fn text(answered: Result<Response<Incoming>, NoResponse>) -> String {
    let collected = timeout(SOON, answered.unwrap().collect()).await.unwrap();
    String::from_utf8(collected.unwrap().to_bytes().to_vec()).unwrap()
}

fn idle(pool: &Pool) -> usize {
    lock(&pool.idle).connections.len()
}

/// Waits until all idle connections are seen as closed by the server.
async fn wait_for_closes(pool: &Pool) {
    let all_closed = async {
        let is_open = |(it, _): &mut (Box<http1::Connection>, u32)| it.is_open();
        while lock(&pool.idle).connections.iter_mut().any(is_open) {
            tokio::task::yield_now().await;
        }
    };
    // Before the next sweep.
    let soon = IDLE_TIMEOUT / (IDLE_SWEEPS + 1);
    timeout(soon, all_closed).await.unwrap();
}

fn streamed(chunks: Vec<Result<&'static str, io::Error>>) -> Outgoing {
    Outgoing::stream(axum::body::Body::from_stream(stream::iter(chunks)), 100)
}

#[tokio::test]
async fn idle_connection_is_reused_and_requests_carry_host() {
    let (pool, mut connections) = start().await;
    let serve = async {
        let mut server = connections.next().await;
        let mut heads = Vec::new();
        for _ in 0..3 {
            heads.push(server.answer(OK).await);
        }
        (server, heads)
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(text(get(&pool).await).await, "ok");
        }
    };
    let ((_server, heads), ()) = tokio::join!(serve, calls);
    assert!(connections.has_no_more());
    let expected = format!(
        "GET /x?y=1 HTTP/1.1\r\nhost: {}\r\n\r\n",
        pool.origin.authority
    );
    assert_eq!(heads, [&*expected; 3]);
}

#[tokio::test]
async fn request_carries_caller_headers_and_token() {
    let (pool, mut connections) = start().await;
    let mut callers = HeaderMap::new();
    for (name, value) in [
        ("x-a", "1"),
        ("x-a", "2"),
        ("host", "gateway"),
        ("content-length", "7"),
        ("authorization", "Bearer evg_1"),
        ("user-agent", "curl"),
    ] {
        callers.append(name, HeaderValue::from_static(value));
    }
    let bearer = HeaderValue::from_static("Bearer token");
    let request = Outbound {
        method: &Method::DELETE,
        uri: &Uri::from_static("/"),
        headers: OutboundHeaders::ToGhl {
            callers: &callers,
            bearer: &bearer,
        },
    };
    let call = pool.send(request, Outgoing::empty());
    let serve = async { connections.next().await.answer(OK).await };
    let (answered, head) = tokio::join!(call, serve);
    assert_eq!(text(answered).await, "ok");
    let (_, headers) = head.split_once("\r\nhost: ").unwrap();
    let (_, headers) = headers.split_once("\r\n").unwrap();
    let version = ghl::api::DEFAULT_VERSION;
    assert_eq!(
        headers,
        format!(
            "x-a: 1\r\nx-a: 2\r\nuser-agent: curl\r\n{AUTHORIZATION}: Bearer token\r\n\
             version: {version}\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn concurrent_calls_use_separate_connections() {
    let (pool, mut connections) = start().await;
    let serve = async {
        let mut first = connections.next().await;
        let mut second = connections.next().await;
        second.answer(OK).await;
        first.answer(OK).await;
        (first, second)
    };
    let call = || async { text(get(&pool).await).await };
    let (_servers, one, another) = tokio::join!(serve, call(), call());
    assert_eq!((&*one, &*another), ("ok", "ok"));
    assert_eq!(idle(&pool), 2);
}

#[tokio::test]
async fn closed_connection_is_not_reused() {
    let (pool, mut connections) = start().await;
    for _ in 0..3 {
        let serve = async { connections.next().await.answer(OK).await };
        let (_, answer) = tokio::join!(serve, async { text(get(&pool).await).await });
        assert_eq!(answer, "ok");
        wait_for_closes(&pool).await;
    }
    lock(&pool.idle).sweep();
    assert_eq!(idle(&pool), 0);
}

/// More than a task may poll with one cooperative budget.
#[tokio::test]
async fn none_of_many_closed_connections_is_reused() {
    const MANY: usize = 300;
    let (pool, mut connections) = start().await;
    let serve = async {
        let mut servers = Vec::new();
        for _ in 0..MANY {
            servers.push(connections.next().await);
        }
        for server in &mut servers {
            server.answer(OK).await;
        }
        servers
    };
    let calls = futures_util::future::join_all((0..MANY).map(|_| get(&pool)));
    let (servers, answers) = tokio::join!(serve, calls);
    for answer in answers {
        assert_eq!(text(answer).await, "ok");
    }
    assert_eq!(idle(&pool), MANY);
    drop(servers);
    let serve = async { connections.next().await.answer(OK).await };
    wait_for_closes(&pool).await;
    let post = send(&pool, Method::POST, Outgoing::empty());
    let (_, answer) = tokio::join!(serve, post);
    assert_eq!(text(answer).await, "ok");
}

#[tokio::test]
async fn idle_connection_is_closed_after_the_idle_timeout() {
    let (pool, mut connections) = start().await;
    let serve = async {
        let mut server = connections.next().await;
        server.answer(OK).await;
        server
    };
    let (mut server, answer) = tokio::join!(serve, async { text(get(&pool).await).await });
    assert_eq!(answer, "ok");
    for _ in 1..IDLE_SWEEPS {
        lock(&pool.idle).sweep();
        assert_eq!(idle(&pool), 1);
    }
    lock(&pool.idle).sweep();
    assert!(server.is_closed().await);
}

/// Bytes that are left on such a connection must not become the response to another call.
#[tokio::test]
async fn connection_with_extra_bytes_or_close_is_not_reused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut server = connections.next().await;
            server.answer(answer).await;
            server
        };
        let (mut server, text) = tokio::join!(serve, async { text(get(&pool).await).await });
        assert_eq!((&*text, idle(&pool)), ("ok", 0), "{answer}");
        assert!(server.is_closed().await);
    }
}

#[tokio::test]
async fn connection_with_a_partly_read_response_is_closed() {
    let (pool, mut connections) = start().await;
    let serve = async {
        let mut server = connections.next().await;
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
        server.answer(half).await;
        server
    };
    let (mut server, answered) = tokio::join!(serve, get(&pool));
    drop(answered.unwrap());
    assert!(server.is_closed().await);
    assert_eq!(idle(&pool), 0);
}

#[tokio::test]
async fn truncated_response_is_an_error() {
    for half in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        let (pool, mut connections) = start().await;
        let serve = async { connections.next().await.answer(half).await };
        let (_, answered) = tokio::join!(serve, get(&pool));
        let broken = timeout(SOON, answered.unwrap().collect()).await.unwrap();
        assert!(
            matches!(&broken, Err(Error::Http(error)) if !error.is_user()),
            "{half}: {broken:?}"
        );
    }
}

#[tokio::test]
async fn request_body_has_content_length_if_known_else_is_chunked() {
    let held = || Outgoing::Held(Bytes::from_static(b"held"));
    let unknown = || streamed(vec![Ok("0123456789"), Ok(""), Ok("abcdef")]);
    let known = || Outgoing::stream(axum::body::Body::from("known"), 100);
    for (method, body, expected) in [
        (Method::POST, held(), "content-length: 4\r\n\r\nheld"),
        (Method::GET, held(), "content-length: 4\r\n\r\nheld"),
        (Method::POST, known(), "content-length: 5\r\n\r\nknown"),
        (Method::POST, Outgoing::empty(), "content-length: 0\r\n\r\n"),
        (
            Method::PUT,
            unknown(),
            "transfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n6\r\nabcdef\r\n0\r\n\r\n",
        ),
    ] {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut server = connections.next().await;
            server.until(expected.as_bytes()).await;
            server.send(OK).await;
            server
        };
        let call = async { text(send(&pool, method, body).await).await };
        let (_server, answer) = tokio::join!(serve, call);
        assert_eq!((&*answer, idle(&pool)), ("ok", 1), "{expected}");
    }
}

#[tokio::test]
async fn failed_request_body_is_not_terminated() {
    let broken = vec![Ok("half"), Err(io::ErrorKind::UnexpectedEof.into())];
    let too_long = (0..20).map(|_| Ok("too long")).collect();
    for chunks in [broken, too_long] {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut server = connections.next().await;
            let mut sent = String::new();
            timeout(SOON, server.0.read_to_string(&mut sent))
                .await
                .unwrap()
                .unwrap();
            sent
        };
        let (sent, answered) = tokio::join!(serve, send(&pool, Method::POST, streamed(chunks)));
        let Err(NoResponse::Broken(error)) = answered else {
            panic!("{answered:?}");
        };
        assert!(cause::<BodyStreamError>(&error).is_some(), "{error:?}");
        assert!(!sent.ends_with("0\r\n\r\n"), "{sent}");
    }
}

/// Larger than all buffers between client and server.
fn large() -> Bytes {
    vec![b'x'; 32 * 1024 * 1024].into()
}

#[tokio::test]
async fn early_error_response_is_delivered_and_closes_the_connection() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let streamed = || Outgoing::stream(axum::body::Body::from(large()), u64::MAX);
    for body in [Outgoing::Held(large()), streamed()] {
        let (pool, mut connections) = start().await;
        let serve = async {
            let mut server = connections.next().await;
            server.answer(refusal).await;
            server
        };
        let (mut server, answered) = tokio::join!(serve, send(&pool, Method::POST, body));
        let answer = answered.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(Ok(answer)).await, "no");
        // The connection has half a request on it.
        assert_eq!(idle(&pool), 0);
        assert!(server.is_closed().await);
    }
}

/// A body whose chunks arrive when the test sends them.
fn arriving(mut chunks: mpsc::UnboundedReceiver<&'static str>) -> Outgoing {
    let chunks = stream::poll_fn(move |context| {
        let chunk = ready!(chunks.poll_recv(context));
        Poll::Ready(chunk.map(Ok::<_, io::Error>))
    });
    Outgoing::stream(axum::body::Body::from_stream(chunks), 100)
}

#[tokio::test]
async fn request_body_continues_after_an_early_success_response() {
    for answer in ["HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n", OK] {
        let (pool, mut connections) = start().await;
        let (chunks, body) = mpsc::unbounded_channel();
        let serve = async {
            let mut server = connections.next().await;
            server.answer(answer).await;
            server
        };
        let call = send(&pool, Method::POST, arriving(body));
        let (mut server, answered) = tokio::join!(serve, call);
        text(answered).await;
        chunks.send("the rest").unwrap();
        drop(chunks);
        server.until(b"8\r\nthe rest\r\n0\r\n\r\n").await;
        assert!(server.is_closed().await);
        assert_eq!(idle(&pool), 0);
    }
}

#[tokio::test]
async fn request_and_response_bodies_stream_at_the_same_time() {
    let (pool, mut connections) = start().await;
    let (chunks, body) = mpsc::unbounded_channel();
    let body = arriving(body);
    chunks.send("first").unwrap();
    let serve = async {
        let mut server = connections.next().await;
        server.until(b"5\r\nfirst\r\n").await;
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nFIRST\r\n")
            .await;
        server
    };
    let (mut server, answered) = tokio::join!(serve, send(&pool, Method::POST, body));
    let mut answer = answered.unwrap().into_body();
    assert_eq!(
        answer.frame().await.unwrap().unwrap().into_data().unwrap(),
        "FIRST"
    );
    chunks.send("last").unwrap();
    drop(chunks);
    let serve = async {
        server.until(b"4\r\nlast\r\n0\r\n\r\n").await;
        server.send("4\r\nLAST\r\n0\r\n\r\n").await;
    };
    let ((), rest) = tokio::join!(serve, timeout(SOON, answer.collect()));
    assert_eq!(rest.unwrap().unwrap().to_bytes(), "LAST");
    assert_eq!(idle(&pool), 1);
}
