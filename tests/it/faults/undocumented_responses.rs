//! Valid tokens in response formats that GHL does not document, unreadable responses, and responses for another
//! location.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::client::get;
use tests::up::Up;
use tests::wait::{holds, until};

use super::{PATIENCE, lines};

/// The locations, named after the format of their responses.
fn undocumented_shapes() -> Vec<(&'static str, Value)> {
    let shape = |oddity: &str| json!({ "oddity": oddity });
    let lives = |value: Value| json!({ "oddity": "expires_in", "value": value });
    vec![
        ("scope-array", shape("scope_array")),
        ("booleans-as-text", shape("booleans_as_text")),
        ("camel-case", shape("camel_case")),
        ("byte-order-mark", shape("byte_order_mark")),
        ("wrapped", shape("wrapped")),
        ("gzip", shape("gzip")),
        ("expires-in-text", lives(json!("16"))),
        ("expires-in-float", lives(json!(16.0))),
        ("expires-in-largest", lives(json!(u64::MAX))),
        ("expires-in-date-in-ms", lives(json!(1_795_880_000_000_u64))),
        ("expires-in-words", lives(json!("soon"))),
        ("expires-in-negative", lives(json!(-1))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn undocumented_response_with_valid_token_is_accepted() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "16s")]).await;
    let undocumented_shapes = undocumented_shapes();
    let rules = undocumented_shapes.iter().map(|(location, rule)| {
        let mut rule = rule.clone();
        rule["on"] = json!("token");
        rule["kind"] = json!("odd_answer");
        rule["locationId"] = json!(location);
        // The consent and two refreshes, since the second one uses the token of the first.
        rule["next"] = json!(3);
        rule
    });
    up.sandbox.faults(rules.collect()).await;
    join_all(
        undocumented_shapes
            .iter()
            .map(|(location, _)| is_accepted(&up, location)),
    )
    .await;

    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    assert_eq!(ledger["replays_in_grace"], 0, "{ledger}");
    let list = up.command(&["installations", "list"]).run().await;
    let listed = String::from_utf8_lossy(&list.stdout).into_owned();
    assert_eq!(
        listed.lines().count(),
        1 + undocumented_shapes.len(),
        "{listed}"
    );
    assert_eq!(up.program.line(&["panicked"]), None);
}

async fn is_accepted(up: &Up, location: &str) {
    let id = up.install(location).await;
    let refreshed = format!("[REFRESH] {id}");
    until(location, PATIENCE, || async {
        let done = lines(&up.program, &refreshed);
        holds(done.len() >= 2, lines(&up.program, &id))
    })
    .await;
    let failed: Vec<String> = lines(&up.program, &id)
        .into_iter()
        .filter(|line| line.contains("[REFRESH-"))
        // A busy machine may start a call too late, and then does not send it.
        .filter(|line| !line.contains("no time left for the call"))
        .collect();
    assert!(failed.is_empty(), "{location}: {failed:#?}");
    let replaced = up.program.line(&["is implausible", &id]);
    let is_implausible = ["largest", "date", "words", "negative"]
        .iter()
        .any(|shape| location.contains(shape));
    assert_eq!(
        replaced.is_some(),
        is_implausible,
        "{location}: {replaced:?}"
    );
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (code, body) = get(&up.client, &url).await;
    assert_eq!(code, 200, "{location}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_token_response_is_requested_again() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "16s")]).await;
    let cases = [
        ("unreadable", "[REFRESH-RETRY]", "unreadable_answer"),
        ("foreign", "[REFRESH-FAIL]", "foreign_answer"),
    ];
    let rules = cases.map(|(oddity, ..)| {
        json!({
            "on": "token", "kind": "odd_answer", "oddity": oddity, "next": 1,
            "locationId": oddity, "grant": "refresh_token",
        })
    });
    up.sandbox.faults(json!(rules)).await;
    for (location, tag, kind) in cases {
        let id = up.install(location).await;
        let kind = format!(r#""kind":"{kind}""#);
        let line = up.program.wait_for_line(&[tag, &id, &kind], PATIENCE).await;
        assert!(
            !line.contains("Just a moment"),
            "the body is not logged: {line}"
        );
        let refreshed = format!("[REFRESH] {id}");
        up.program.wait_for_line(&[&refreshed], PATIENCE).await;
        let chain = up.sandbox.chain(location).await;
        let tally = &chain["installations"][0];
        assert!(
            tally["replays_in_grace"].as_u64() >= Some(1),
            "{location}: {chain}"
        );
        assert_eq!(tally["spent_outside_grace"], 0, "{location}: {chain}");
        let (_, status) = get(
            &up.client,
            &format!("{}/api/oauth/status?installation_id={id}", up.public),
        )
        .await;
        assert_eq!(
            status["locationId"], location,
            "not the other location's: {status}"
        );
    }
}
