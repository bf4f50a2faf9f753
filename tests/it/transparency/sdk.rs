//! GHL's official SDK for Node.js. Only its base URL and its key are changed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::program::Start;
use tests::scratch::Scratch;
use tests::up::Up;

/// The registry and the disk may be slow.
const INSTALLING: Duration = Duration::from_secs(300);

/// Needs `node` and `npm`, and fails without them.
#[tokio::test(flavor = "multi_thread")]
async fn official_node_sdk_works_through_gateway() {
    let scratch = Scratch::new();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
    for name in ["package.json", "through.js"] {
        fs::copy(files.join(name), scratch.path().join(name)).unwrap();
    }
    let npm = ["install", "--no-package-lock", "--no-audit", "--no-fund"];
    let mut install = Start::new("npm").args(&npm);
    install = install.args(&["--ignore-scripts", "--prefix", &scratch.join("")]);
    // Keep this machine's settings for the npm registry.
    for (name, value) in std::env::vars() {
        let lower = name.to_ascii_lowercase();
        let is_npms = lower.starts_with("npm_config_") || lower.ends_with("_proxy");
        if is_npms || matches!(name.as_str(), "HOME" | "NODE_EXTRA_CA_CERTS") {
            install = install.env(&name, value);
        }
    }
    let installed = install.run_within(INSTALLING).await;
    assert!(installed.status.success(), "{installed:?}");

    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    up.install("locB").await;
    let create = ["keys", "create", "--name", "sdk", "--installation", &id];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    // The SDK does not notice that the first token had expired.
    up.sandbox.steer("expire", "locA").await;
    let sdk = Start::new("node").args(&[
        scratch.join("through.js").as_str(),
        &format!("{}/ghl", up.public),
        key.trim_end(),
        "locA",
    ]);
    let ran = sdk.run().await;
    assert!(ran.status.success(), "{ran:?}");
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["product"], "from the SDK");
    assert_eq!(seen["contact"], "sdk@example.com");
    assert_eq!(seen["location"], "locA");
    assert!(seen["media"].is_string(), "{seen}");
    let missing = json!({
        "isGhls": true,
        "code": "NOT_FOUND",
        "statusCode": 404,
        "message": "Product not found",
    });
    assert_eq!(
        seen["missing"], missing,
        "GHL's error, as its SDK reports it"
    );
    assert_eq!(seen["invalid"]["statusCode"], 422);
    let refused = &seen["elsewhere"];
    assert_eq!(
        (&refused["isGhls"], &refused["statusCode"]),
        (&json!(true), &json!(403))
    );
    assert_eq!(
        refused["message"],
        "The API key is not for this installation"
    );
    assert_eq!(up.sandbox.count("calls_with_expired_token").await, 1);
}
