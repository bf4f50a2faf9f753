//! The published libraries of Standard Webhooks accept the signatures. They check the age of a message, too.

use std::fs;

use tests::packages;
use tests::program::Start;
use tests::receiver::SECRET;

use super::*;

/// Lets a program verify the events of an installation.
async fn expect_verified(program: Start, scratch: &Scratch) {
    let receiver = Receiver::start().await;
    let up = up_with(&receiver, &[]).await;
    up.install("locA").await;
    let url = format!("{}/v1/installations/locA/revoke", up.internal);
    assert_eq!(send(up.client.post(url)).await.0, 200);
    receiver
        .event("installation.uninstalled", "locA", PATIENCE)
        .await;
    let taken = receiver.taken();
    let messages: Vec<Value> = taken
        .iter()
        .map(|one| {
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers = names.map(|name| (name, one.header(name)));
            let headers: std::collections::BTreeMap<_, _> = headers.into_iter().collect();
            json!({ "headers": headers, "body": String::from_utf8_lossy(&one.body) })
        })
        .collect();
    let file = scratch.join("messages.json");
    fs::write(&file, json!(messages).to_string()).unwrap();
    let ran = program.args(&[SECRET, &file]);
    let ran = ran.run_within(PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let kinds: Vec<String> = taken.iter().map(Received::kind).collect();
    assert_eq!(seen["types"], json!(kinds));
    assert_eq!(seen["refused"], kinds.len(), "every byte is signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn published_node_library_verifies_events() {
    let files = ["package.json", "package-lock.json", "verify.mjs"];
    let scratch = packages::copies("tests/receivers", &files);
    packages::install_node_packages(&scratch).await;
    let program = Start::new("node").args(&[scratch.join("verify.mjs")]);
    expect_verified(program, &scratch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_python_library_verifies_events() {
    let scratch = packages::copies("tests/receivers", &["requirements.txt", "verify.py"]);
    let python = packages::install_python_packages(&scratch, "requirements.txt").await;
    let program = python.args(&[scratch.join("verify.py")]);
    expect_verified(program, &scratch).await;
}
