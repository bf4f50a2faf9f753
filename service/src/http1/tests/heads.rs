//! Requests, wherever on their way they are cut into pieces.

use bytes::BytesMut;

use crate::http1::request::Head;
use crate::http1::{BUFFER_BYTES, MAX_HEADERS, Malformed, Names};

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
        (
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "GET / host=[::1]:80, Length(0) kept=true",
        ),
        (
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / host=, Length(0) kept=true",
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
        (
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(),
            Malformed::Host,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
            Malformed::Host,
        ),
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
