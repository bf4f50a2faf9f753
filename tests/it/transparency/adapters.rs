//! The session storages of `adapters/` give GHL's official SDKs the tokens of evergreen. The SDKs call GHL directly, and
//! never its token endpoint.

use serde_json::{Value, json};
use tests::packages;
use tests::program::Start;
use tests::up::Up;
use tests::wait::{holds, until};

use super::PATIENCE;

/// Runs the test program of an adapter, which lets its access token expire at GHL before its time. Returns the program's
/// results, after checks of the sandbox's ledger.
async fn results(program: Start) -> Value {
    // The token is young, and is replaced only since the program reports that it was refused.
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "1h")]).await;
    up.install("locA").await;
    let create = ["keys", "create", "--name", "sdk", "--scope", "tokens"];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    let (internal, sandbox) = (up.internal.as_str(), up.sandbox.url.as_str());
    let program = program.args(&[internal, key.trim_end(), sandbox, "locA"]);
    let ran = program.run_within(PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");

    let ledger = up.sandbox.ledger().await;
    let expired = ledger["calls_with_expired_token"].as_u64().unwrap();
    assert!(expired > 1, "the SDK's token was refused: {ledger}");
    // Each refresh was one of evergreen's, and nobody else called the token endpoint.
    let token_calls = until("evergreen's refreshes", PATIENCE, || async {
        let token_calls = up.sandbox.ledger().await["token_calls"].take();
        let log = up.program.log();
        let refreshes = log.iter().filter(|line| line.contains("[REFRESH] "));
        let refreshed = json!(refreshes.count());
        holds(token_calls["refreshed"] == refreshed, &refreshed).map(|()| token_calls)
    })
    .await;
    let calls = token_calls.as_object().unwrap();
    let failed = calls
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "code_exchanged" | "refreshed"));
    for (name, count) in failed {
        assert_eq!(*count, json!(0), "{name}: {token_calls}");
    }
    assert_eq!(token_calls["code_exchanged"], 1);
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Checks the results that both programs have.
fn check(seen: &Value) {
    let pages = json!([["c@example.com", "b@example.com"], ["a@example.com"]]);
    assert_eq!(seen["pages"], pages);
    let refused = json!({ "statusCode": 401, "message": "Invalid JWT" });
    assert_eq!(seen["refusedWithoutAttach"], refused);
    assert_eq!(seen["created"], "d@example.com", "after a 401");
    assert_eq!(seen["refreshToken"], Value::Null);
    let refused = seen["setSession"]["message"].as_str().unwrap();
    assert!(refused.contains("evergreen keeps the tokens"), "{seen}");
    let unknown = seen["unknownLocation"]["message"].as_str().unwrap();
    assert!(unknown.contains("(installation_not_found)"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_session_storage_replaces_the_refreshes_of_the_sdk() {
    let scratch = packages::copy("adapters/node");
    packages::install_node_packages(&scratch).await;
    let program = Start::new("node").args(&[scratch.join("test/sdk.js")]);
    let seen = results(program).await;
    check(&seen);
    assert_eq!(seen["listed"], true, "after a 401");
    assert_eq!(seen["media"], json!([[true, "note"]]), "after a 401");
    assert_eq!(
        seen["callForUnknownLocation"]["message"],
        "Authentication token required but not available"
    );

    let pack = ["pack", "--dry-run", "--json", "--ignore-scripts"];
    let pack = Start::new("npm").args(&pack).args(&[scratch.join("")]);
    let packed = pack.run_within(PATIENCE).await;
    let packed: Value = serde_json::from_slice(&packed.stdout).unwrap();
    let files = packed[0]["files"].as_array().unwrap();
    let names: Vec<&str> = files.iter().filter_map(|it| it["path"].as_str()).collect();
    let expected = [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "index.d.ts",
        "index.js",
        "package.json",
    ];
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_session_storage_replaces_the_refreshes_of_the_sdk() {
    let scratch = packages::copy("adapters/python");
    let python = packages::install_python_packages(&scratch, "test/requirements.txt").await;
    // The package itself is built as it would be published.
    let own = ["--no-deps", "--no-build-isolation", &scratch.join("")];
    packages::pip_install(&python, &own).await;
    let seen = results(python.args(&[scratch.join("test/sdk.py")])).await;
    check(&seen);
    assert_eq!(seen["listed"], json!([]), "after a 401");
    assert_eq!(seen["shown"], true, "after a 401");
    assert_eq!(seen["media"], "str");
}
