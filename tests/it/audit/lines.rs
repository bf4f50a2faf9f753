//! The audit log in a file, and on the standard output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::scratch::Scratch;

use super::*;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn names(entries: &[Value]) -> Vec<&str> {
    let created = entries.iter().filter(|it| it["action"] == "key_created");
    created
        .filter_map(|it| it["key"]["name"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn file_has_the_entries_of_the_store_also_after_it_was_moved() {
    let scratch = Scratch::new();
    let (path, moved) = (
        scratch.path().join("audit.log"),
        scratch.path().join("audit.log.1"),
    );
    let up = Up::start(&[("EVERGREEN_AUDIT_LOG", &path.display().to_string())]).await;
    let id = up.install("locA").await;
    let (_, key) = create_key(&up, "first", "tokens").await;
    let token = fetch(&up, &id, &key).await;
    until_counted(&up, "token_fetched", 1).await;
    // It is written after the store.
    until("the entry of the gateway", PATIENCE, || async {
        let written = lines(&path);
        holds(!with_action(&written, "token_fetched").is_empty(), written)
    })
    .await;
    let mut stored = shown(&up, &[]).await;
    // The administrator's key is made before the file is opened.
    stored.retain(|it| it["by"]["kind"] != "operator");
    let mut written = lines(&path);
    let by_id = |entry: &Value| entry["id"].as_str().unwrap().to_owned();
    stored.sort_by_key(by_id);
    written.sort_by_key(by_id);
    assert_eq!(written, stored);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::rename(&path, &moved).unwrap();
    create_key(&up, "second", "proxy").await;
    assert_eq!(names(&lines(&moved)), ["first"]);
    assert_eq!(names(&lines(&path)), ["second"]);
    let all = fs::read_to_string(&moved).unwrap() + &fs::read_to_string(&path).unwrap();
    for secret in [&token, &key, KEY] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_file_stops_no_request_and_is_counted() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("log");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("audit.log").display().to_string();
    let up = Up::start(&[("EVERGREEN_AUDIT_LOG", &path)]).await;
    // It listens before it opens the file.
    assert_eq!(
        client::get(&up.client, &format!("{}/v1/keys", up.internal))
            .await
            .0,
        200
    );
    fs::remove_dir_all(&directory).unwrap();
    create_key(&up, "first", "proxy").await;
    let name = "evergreen_audit_lost_total{place=\"file\"}";
    let lost = client::gauge(&up.client, &up.internal, name).await;
    assert_eq!(lost.as_deref(), Some("1"));
    let line = up.program.line(&["EVERGREEN_AUDIT_LOG"]);
    assert!(line.is_some(), "{:#?}", up.program.log());
    assert_eq!(names(&shown(&up, &[]).await)[0], "first");

    fs::create_dir(&directory).unwrap();
    create_key(&up, "second", "proxy").await;
    assert_eq!(names(&lines(Path::new(&path))), ["second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_cannot_be_opened_keeps_the_process_from_starting() {
    let scratch = Scratch::new();
    let start = tests::program::Start::evergreen(&["up"])
        .args(&["--data-dir", &scratch.join("data")])
        .args(&["--listen", &format!("127.0.0.1:{}", tests::port::free())])
        .args(&[
            "--internal-listen",
            &format!("127.0.0.1:{}", tests::port::free()),
        ])
        .env(
            "EVERGREEN_SANDBOX_LISTEN",
            format!("127.0.0.1:{}", tests::port::free()),
        )
        .env("EVERGREEN_AUDIT_LOG", scratch.join("missing/audit.log"));
    let output = start.run().await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("EVERGREEN_AUDIT_LOG"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_the_entries() {
    let up = Up::start(&[("EVERGREEN_AUDIT_LOG", "stdout")]).await;
    create_key(&up, "first", "proxy").await;
    let line = up
        .program
        .wait_for_line(&["\"key_created\"", "first"], PATIENCE)
        .await;
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(entry["key"]["name"], "first");
}
