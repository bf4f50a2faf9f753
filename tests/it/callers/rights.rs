//! Keys that may make some calls only, and their successors.

use serde_json::json;
use tests::client::{self, send};
use tests::up::Up;

use super::{WITHIN_A_SECOND, create_key, echo_of, key_of, until_status};

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_has_a_successor_that_may_do_the_same() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let limited = [
        "--name",
        "shop",
        "--allow",
        "get /_sandbox/*",
        "--quota",
        "500/10s",
    ];
    let old = create_key(&up, &limited).await;
    let new = key_of(up.command(&["keys", "rotate", "shop", "--overlap", "1h"])).await;
    assert_ne!(old, new);
    let contacts = format!("{}/ghl/contacts/?installation_id={id}", up.public);
    for key in [&old, &new] {
        assert_eq!(send(echo_of(&up, &id).bearer_auth(key)).await.0, 200);
        let (status, refusal) = send(client::anonymous().get(&contacts).bearer_auth(key)).await;
        assert_eq!(
            (status, &refusal["code"]),
            (403, &json!("call_not_allowed"))
        );
    }
    // There are two keys of this name now.
    let ambiguous = up.command(&["keys", "rotate", "shop"]).run().await;
    assert_eq!(ambiguous.status.code(), Some(1), "{ambiguous:?}");
    let hash = |key: &str| store::KeyHash::of(key).to_string();
    let last = key_of(up.command(&["keys", "rotate", &hash(&new), "--overlap", "0s"])).await;
    let echo_with = |key: &str| echo_of(&up, &id).bearer_auth(key);
    until_status(401, WITHIN_A_SECOND, || echo_with(&new)).await;
    assert_eq!(send(echo_with(&last)).await.0, 200);
    assert_eq!(send(echo_with(&old)).await.0, 200);

    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    let rows: Vec<&str> = listed.lines().filter(|row| row.contains("shop")).collect();
    assert_eq!(rows.len(), 3, "{listed}");
    for row in &rows {
        assert!(
            row.contains("GET /_sandbox/*") && row.contains("500/10s"),
            "{row}"
        );
    }
    let admin = up
        .command(&["keys", "rotate", "local administrator"])
        .run()
        .await;
    let refusal = String::from_utf8(admin.stderr).unwrap();
    assert!(refusal.contains("delete the file"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_for_some_calls_has_no_scope_that_allows_more() {
    let up = Up::start(&[]).await;
    for scope in ["tokens", "admin"] {
        let asked = [
            "keys", "create", "--name", "x", "--scope", scope, "--allow", "GET /*",
        ];
        let refused = up.command(&asked).run().await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let message = String::from_utf8(refused.stderr).unwrap();
        assert!(
            message.contains("cannot be limited to some calls"),
            "{message}"
        );
    }
    let misspelt = ["keys", "create", "--name", "x", "--allow", "GET contacts"];
    let refused = up.command(&misspelt).run().await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("such as `GET /contacts/*`"), "{message}");
}
