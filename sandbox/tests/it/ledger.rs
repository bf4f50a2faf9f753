//! The ledger.

use ring::digest;
use serde_json::json;

use crate::harness::{Sandbox, answer, tokens};

fn fingerprint(token: &str) -> String {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn ledger_lists_every_token_of_a_chain() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    let second = tokens(sandbox.refresh(&first.refresh).await.1);
    sandbox.refresh(&first.refresh).await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    sandbox.refresh(&first.refresh).await;
    sandbox.install("loc2").await;

    let (status, body) = answer(sandbox.get("/_sandbox/ledger/loc1")).await;
    assert_eq!(status, 200);
    let grant = &body["installations"][0];
    assert_eq!(grant["locationId"], "loc1");
    assert_eq!(grant["refresh_tokens_issued"], 2);
    let (one, two) = (&grant["tokens"][0], &grant["tokens"][1]);
    assert_eq!(one["token"], fingerprint(&first.refresh));
    assert_eq!(one["successor"], fingerprint(&second.refresh));
    assert_eq!(one["spent"], 3);
    assert_eq!(one["replays_in_grace"], 1);
    assert_eq!(one["spent_outside_grace"], 1);
    assert_eq!(one["repeats"].as_array().unwrap().len(), 2);
    assert!(one["spent_ms"].as_u64() >= one["issued_ms"].as_u64());
    assert_eq!(two["token"], fingerprint(&second.refresh));
    assert_eq!(
        (&two["spent_ms"], &two["successor"]),
        (&json!(null), &json!(null))
    );

    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_issued"], 3);
    assert_eq!(ledger["refresh_tokens_spent"], 1);
    assert_eq!(ledger["replays_in_grace"], 1);
    assert_eq!(ledger["spent_outside_grace"], 1);
    assert_eq!(ledger["grants"], 2);
    assert_eq!(ledger["token_calls"]["code_exchanged"], 2);
    assert_eq!(ledger["token_calls"]["invalid_grant"], 1);
    assert!(ledger.get("installations").is_none());

    let (_, detail) = answer(sandbox.get("/_sandbox/ledger?detail=1")).await;
    assert_eq!(detail["installations"].as_array().unwrap().len(), 2);
    let text = detail.to_string();
    assert!(!text.contains(&second.refresh) && !text.contains(&second.access));
    assert_eq!(answer(sandbox.get("/_sandbox/ledger/none")).await.0, 404);
}

#[tokio::test]
async fn concurrent_refreshes_of_one_token_spend_it_once() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    let calls = (0..20).map(|_| sandbox.refresh(&first.refresh));
    let answers = futures_util::future::join_all(calls).await;
    let successor = &answers[0].1["refresh_token"];
    for (status, body) in &answers {
        assert_eq!(*status, 200);
        assert_eq!(&body["refresh_token"], successor);
    }
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 1);
    assert_eq!(ledger["replays_in_grace"], 19);
}
