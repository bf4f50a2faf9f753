//! A success that is not evergreen's own answer is an error of every command.

use tests::client::KEY;
use tests::program::Start;
use tests::raw_server::RawServer;
use tests::scratch::Scratch;

const ID: &str = "install_00112233445566778899aabb";

/// Answers of others: a page, JSON of another service, and members of the right name in another shape.
const ANSWERS: [(&str, &str); 6] = [
    ("text/html", "<p>Hi</p>"),
    ("application/json", "{}"),
    ("application/json", "null"),
    ("application/json", "[]"),
    (
        "application/json",
        r#"{"key":"","keys":{},"apps":1,"installations":"x","installationId":null,"url":7,"rings":{},"endpoints":null}"#,
    ),
    (
        "application/json",
        r#"{"generation":{},"entries":true,"events":{},"deadLetters":0,"queued":"","delivered":"no","path":"","rotation":7,"filter":[],"forgotten":null}"#,
    ),
];

const COMMANDS: [&[&str]; 23] = [
    &["console"],
    &["keys", "create", "--name", "shop"],
    &["keys", "list"],
    &["keys", "revoke", "shop"],
    &["keys", "rotate", "shop"],
    &["apps", "list"],
    &["apps", "free", "staging"],
    &["audit"],
    &["events", "endpoints"],
    &["events", "list"],
    &["events", "list", "--dead"],
    &["events", "resend", "crm", "--dead"],
    &["events", "test", "crm"],
    &["installations", "list"],
    &["installations", "show", ID],
    &["installations", "refresh", ID],
    &["installations", "revoke", ID],
    &["installations", "delete", ID, "--yes"],
    &["installations", "tag", ID, "--set", "a"],
    &["installations", "connect-link"],
    &["seal", "status"],
    &["seal", "rotate", "--no-wait"],
    &["log-level"],
];

fn response(status: &str, content_type: &str, body: &str) -> &'static str {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    // The server takes a text of the test itself.
    text.leak()
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_portal_is_not_taken_for_a_success() {
    let scratch = Scratch::new();
    let successes = ANSWERS.map(|(content_type, body)| response("200 OK", content_type, body));
    let missing = response("404 Not Found", "text/html", "<p>Hi</p>");
    for answer in successes.into_iter().chain([missing]) {
        let portal = RawServer::responding(answer).await;
        for command in COMMANDS {
            let ended = asked(&scratch, &portal, command).await;
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{command:?} {answer} {said}");
            assert!(ended.stdout.is_empty(), "{command:?} {answer} {ended:?}");
            let reason = "is not evergreen's internal listener";
            assert!(said.contains(reason), "{command:?} {answer} {said}");
            assert!(!said.contains("Keep this key"), "{command:?} {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_portal_is_not_exported() {
    let scratch = Scratch::new();
    let portal = RawServer::responding(response("200 OK", "text/html", "<p>Hi</p>")).await;
    let out = scratch.join("export.ndjson");
    let command = [
        "installations",
        "export",
        "--with-tokens",
        "--out",
        out.as_str(),
    ];
    let ended = asked(&scratch, &portal, &command).await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is not evergreen's internal listener"),
        "{said}"
    );
    assert!(!std::path::Path::new(&out).exists());
}

async fn asked(scratch: &Scratch, portal: &RawServer, command: &[&str]) -> std::process::Output {
    let start = Start::evergreen(command)
        .env("EVERGREEN_DATA_DIR", scratch.join("none"))
        .env("EVERGREEN_ADMIN_URL", &portal.url)
        .env("EVERGREEN_ADMIN_KEY", KEY);
    start.run().await
}
