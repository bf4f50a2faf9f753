//! A GHL that repeats in its errors what it was sent. No secret of it leaves the process.

use std::time::Duration;

use serde_json::json;
use tests::client::{get, send};
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(90);
const CLIENT_SECRET: &str = "client secret/of+the app";
const CODE: &str = "code-0123456789-abcdef";

/// Answers each request with an error whose message has the whole request.
async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let plain = "a token: eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl";
        let message = format!("Invalid grant: {body} {CODE} {CLIENT_SECRET} {plain}");
        let message = json!({ "statusCode": 400, "message": message }).to_string();
        let response = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{message}",
            message.len()
        );
        stream.write_all(response.as_bytes()).await?;
        request.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_ghl_echoes_reach_no_log_and_no_caller() {
    let ghl = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", ghl.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = ghl.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let settings = [
        ("EVERGREEN_REQUIRE_STATE", "false"),
        ("EVERGREEN_LOG", "trace"),
    ];
    let up = Up::start(&settings).await.against(&Sandbox::at(&url)).await;
    let mut up = up.with("GHL_CLIENT_SECRET", CLIENT_SECRET);
    up.restart().await;
    let callback = format!("{}/oauth/callback?code={CODE}", up.public);
    let (status, body) = send(up.client.get(&callback)).await;
    // The echo names `client_id`, as GHL does when it refuses the credentials.
    assert_eq!((status, &body["code"]), (502, &json!("consent_failed")));
    assert_eq!(
        body["message"],
        "GHL does not accept this app's credentials"
    );
    let said = up
        .program
        .wait_for_line(&["a code was not exchanged"], PATIENCE)
        .await;
    assert!(said.contains("[removed]"), "{said}");
    let (_, metrics) = get(&up.client, &format!("{}/metrics", up.internal)).await;
    until("the log to be complete", PATIENCE, || async {
        let log = up.program.log();
        holds(log.iter().any(|line| line.contains("[removed]")), log.len())
    })
    .await;
    let everywhere = format!("{body}\n{metrics}\n{}", up.program.log().join("\n"));
    for secret in [
        CLIENT_SECRET,
        "client+secret%2Fof%2Bthe+app",
        CODE,
        "eyJhbGci",
    ] {
        let line = everywhere.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
