//! Bodies that GHL receives before their end.

use std::time::Duration;

use tests::client::with_key;
use tests::raw_server::{RawServer, ServerAction};
use tests::wait::{holds, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::up_before;

const PATIENCE: Duration = Duration::from_secs(30);

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

/// A chunk of a multipart form: a location, and the beginning of a file of this many bytes.
fn form(file_bytes: usize) -> String {
    let field = "--b\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\nlocA\r\n";
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    format!("{field}{file}{}", "x".repeat(file_bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn body_streams_if_the_installation_is_known_before_its_end() {
    let server = RawServer::performing(&[ServerAction::AwaitClose]).await;
    let up = up_before(&server, &[]).await;
    let address = up.public.strip_prefix("http://").unwrap();
    for (path, headers, first) in [
        (
            "/ghl/a",
            format!("X-Installation-Id: locA\r\n{JSON}"),
            "{".to_owned(),
        ),
        ("/ghl/a?locationId=locA", MULTIPART.to_owned(), form(1)),
        ("/ghl/a", MULTIPART.to_owned(), form(70_000)),
        (
            "/api/ghl/medias/upload-file",
            MULTIPART.to_owned(),
            form(70_000),
        ),
    ] {
        let seen = server.requests().len();
        let mut caller = TcpStream::connect(address).await.unwrap();
        let unfinished = format!(
            "POST {path} HTTP/1.1\r\nHost: g\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n",
            first.len()
        );
        let unfinished = with_key(unfinished.as_bytes());
        caller.write_all(&unfinished).await.unwrap();
        until("the request at GHL", PATIENCE, || async {
            let now = server.requests().len();
            holds(now > seen, format!("{path} {headers}"))
        })
        .await;
    }
    server.wait_for_closed_connections(4).await;
}
