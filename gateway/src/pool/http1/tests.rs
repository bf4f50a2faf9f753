//! What answers mean, wherever on their way they are cut into pieces.

use super::*;

/// What is understood of an answer to a request of this method that arrives in such pieces; after
/// the last the connection is closed.
fn read<'a>(
    method: &Method,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Head, Vec<u8>, Vec<u8>), Error> {
    let mut pieces = pieces.into_iter();
    let (mut read, mut names) = (BytesMut::new(), Names::default());
    let head = loop {
        read.extend_from_slice(pieces.next().ok_or(Error::Closed)?);
        if let Some(head) = head::parse(&mut read, method, &mut names)? {
            break head;
        }
    };
    let mut framing = head.framing;
    let mut body = Vec::new();
    loop {
        if let Some(data) = framing.next(&mut read)? {
            assert!(!data.is_empty());
            body.extend_from_slice(&data);
        } else if framing.is_over() {
            let rest: Vec<&[u8]> = pieces.collect();
            let rest = [&read[..], &rest.concat()].concat();
            return Ok((head, body, rest));
        } else if let Some(piece) = pieces.next() {
            read.extend_from_slice(piece);
        } else {
            framing.closed().then_some(()).ok_or(Error::Closed)?;
        }
    }
}

/// The same in one piece, in two of all lengths, and byte by byte.
fn outcomes(method: &Method, answer: &str) -> String {
    let answer = answer.as_bytes();
    let describe = |outcome: Result<(Head, Vec<u8>, Vec<u8>), Error>| match outcome {
        Err(error) => format!("{error}"),
        Ok((head, body, rest)) => {
            let is_kept = head.is_kept;
            let response = head.into_response(Incoming {
                connection: None,
                framing: Framing::NOTHING,
                is_kept,
                is_refusal: false,
            });
            let mut headers: Vec<String> = Vec::new();
            for (name, value) in response.headers() {
                headers.push(format!("{name}={}", value.to_str().unwrap()));
            }
            let [body, rest] = [body, rest].map(|it| String::from_utf8(it).unwrap());
            let status = response.status().as_u16();
            format!(
                "{status} {} body={body} rest={rest} kept={is_kept}",
                headers.join(" ")
            )
        }
    };
    let whole = describe(read(method, [answer]));
    for cut in 0..=answer.len() {
        let (start, end) = answer.split_at(cut);
        assert_eq!(describe(read(method, [start, end])), whole, "cut at {cut}");
    }
    assert_eq!(describe(read(method, answer.chunks(1))), whole);
    whole
}

#[test]
fn answers_end_where_they_say() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |chunks: &str| [CHUNKED, chunks].concat();
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\r\nokmore",
            "200 content-length=2 x-a=1 body=ok rest=more kept=true",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "200 content-length=2 body=ok rest= kept=true",
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nno",
            "204 content-length=2 body= rest=no kept=true",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nno",
            "304 content-length=2 body= rest=no kept=true",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nX-B: 1\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n",
            "201 content-length=0 body= rest= kept=true",
        ),
        (
            "HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nall of it",
            "200 x-a=1 body=all of it rest= kept=false",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x-a, Close\r\nX-A: 1\r\n\r\n1",
            "200 content-length=1 body=1 rest= kept=false",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nKeep-Alive: 5\r\nConnection: keep-alive\r\n\r\n1",
            "200 content-length=1 body=1 rest= kept=true",
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
            "200 content-length=1 body=1 rest= kept=false",
        ),
        (
            &chunked("2\r\nok\r\n3;x=y\r\n...\r\n0\r\nTrailer: 1\r\n\r\nmore"),
            "200  body=ok... rest=more kept=true",
        ),
        (&chunked("0\r\n\r\n"), "200  body= rest= kept=true"),
    ];
    for (answer, expected) in cases {
        assert_eq!(outcomes(&Method::GET, answer), expected, "{answer}");
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        outcomes(&Method::HEAD, head),
        "200 content-length=5 body= rest= kept=true"
    );
}

#[test]
fn what_could_be_understood_in_two_ways_is_refused() {
    let with = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n0\r\n\r\n");
    let malformed = |malformed: Malformed| Error::from(malformed).to_string();
    for (answer, expected) in [
        (
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            Malformed::LengthAndChunks,
        ),
        (
            with("Content-Length: 5\r\nContent-Length: 6"),
            Malformed::Length,
        ),
        (with("Content-Length: 5, 5"), Malformed::Length),
        (with("Content-Length: +5"), Malformed::Length),
        (with("Content-Length: -5"), Malformed::Length),
        (with("Content-Length:"), Malformed::Length),
        (
            with("Content-Length: 99999999999999999999"),
            Malformed::Length,
        ),
        (with("Transfer-Encoding: gzip, chunked"), Malformed::Coding),
        (
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Malformed::Unending,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
            Malformed::Upgrade,
        ),
        (
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            Malformed::Head(httparse::Error::Version),
        ),
        (with("A b: 1"), Malformed::Head(httparse::Error::HeaderName)),
    ] {
        assert_eq!(
            outcomes(&Method::GET, &answer),
            malformed(expected),
            "{answer}"
        );
    }
    for chunks in [
        "x\r\n",
        "2\r\nokay\r\n",
        "10000000000000000\r\n",
        "\r\n\r\n",
        " \r\n\r\n",
        ";x\r\n\r\n",
        "2\r\nok\r\n\r\n\r\n",
        "2;\nx\r\nok\r\n0\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let outcome = outcomes(&Method::GET, &answer);
        assert_eq!(outcome, malformed(Malformed::Chunks), "{chunks}");
    }
}

#[test]
fn what_does_not_end_is_given_up() {
    let endless = "x".repeat(BUFFER_BYTES);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (answer, expected) in [
        (
            format!("HTTP/1.1 200 OK\r\nX-A: {endless}"),
            Malformed::LongHead,
        ),
        (format!("{chunked}1;{endless}"), Malformed::Chunks),
        (format!("{chunked}0\r\nX-A: {endless}"), Malformed::Chunks),
    ] {
        let outcome = read(&Method::GET, answer.as_bytes().chunks(1024));
        let Err(Error::Malformed(malformed)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(malformed, expected);
    }
}
