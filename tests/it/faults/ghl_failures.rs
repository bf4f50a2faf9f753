//! How one refresh handles each failure of the token endpoint.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::client::get;
use tests::up::Up;
use tests::wait::{holds, until};

use super::{PATIENCE, lines};

/// The response to the first refresh of an installation, and the expected result. The next response is correct.
struct FailureCase {
    /// Also the name of the location.
    name: &'static str,
    rule: Value,
    logged: LoggedLine,
    /// How often GHL replayed a response within its grace.
    replays: u64,
}

/// The expected log line.
#[derive(Clone, Copy)]
enum LoggedLine {
    Nothing,
    Retry(&'static str),
    Fail(&'static str),
}

fn failure_cases() -> Vec<FailureCase> {
    use LoggedLine::{Fail, Nothing, Retry};
    let case = |name, rule, logged, replays| FailureCase {
        name,
        rule,
        logged,
        replays,
    };
    let status = |status: u16, more: Value| {
        let mut rule = json!({ "kind": "status", "status": status });
        let fields = more.as_object().into_iter().flatten();
        for (name, value) in fields {
            rule[name] = value.clone();
        }
        rule
    };
    let with_body = |code, body| status(code, json!({ "body": body }));
    vec![
        // Slow, but before the timeout.
        case(
            "slow-headers",
            json!({ "kind": "hang", "ms": 700 }),
            Nothing,
            0,
        ),
        case(
            "slow-body",
            json!({ "kind": "slow_body", "ms": 700 }),
            Nothing,
            0,
        ),
        // The request was sent and no response arrived. Only GHL knows whether it spent the token.
        case(
            "hang",
            json!({ "kind": "hang", "ms": 60_000 }),
            Retry("ambiguous"),
            0,
        ),
        case(
            "endless-body",
            json!({ "kind": "slow_body", "ms": 60_000 }),
            Retry("ambiguous"),
            1,
        ),
        case(
            "reset",
            json!({ "kind": "reset_before" }),
            Retry("ambiguous"),
            0,
        ),
        case(
            "lost",
            json!({ "kind": "process_then_lose" }),
            Retry("ambiguous"),
            1,
        ),
        case(
            "truncated",
            with_body(200, "truncated_json"),
            Retry("unreadable_answer"),
            1,
        ),
        case(
            "html",
            with_body(200, "html"),
            Retry("unreadable_answer"),
            0,
        ),
        // GHL cannot serve the request now.
        case("500", status(500, json!({})), Retry("transient"), 0),
        case("502-html", with_body(502, "html"), Retry("transient"), 0),
        case("429", status(429, json!({})), Retry("transient"), 0),
        case(
            "429-in-2-s",
            status(429, json!({ "retry_after": 2 })),
            Retry("transient"),
            0,
        ),
        // A gateway in front of GHL refuses the request. An operator must act, and no installation ends.
        case("403-html", with_body(403, "html"), Fail("bad_request"), 0),
        // The response is incomplete, but has a valid token.
        case("only-tokens", with_body(200, "missing_fields"), Nothing, 0),
        case(
            "no-refresh-token",
            with_body(200, "missing_refresh_token"),
            Nothing,
            0,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_survives_every_token_endpoint_failure() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "16s"),
        ("EVERGREEN_TOKEN_TIMEOUT", "2s"),
    ])
    .await;
    let failure_cases = failure_cases();
    let rules = failure_cases.iter().map(|case| {
        let mut rule = case.rule.clone();
        rule["on"] = json!("token");
        rule["grant"] = json!("refresh_token");
        rule["locationId"] = json!(case.name);
        rule["next"] = json!(1);
        rule
    });
    up.sandbox.faults(rules.collect()).await;
    join_all(failure_cases.iter().map(|case| check_case(&up, case))).await;

    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    assert_eq!(up.program.line(&["GHL_CLIENT_ID and"]), None);
    assert_eq!(
        up.program.line(&["overloaded"]),
        None,
        "one installation is not an overload"
    );
}

async fn check_case(up: &Up, case: &FailureCase) {
    let name = case.name;
    let id = up.install(name).await;
    let refreshed = format!("[REFRESH] {id}");
    let (tag, kind) = match case.logged {
        LoggedLine::Nothing => ("", None),
        LoggedLine::Retry(kind) => ("[REFRESH-RETRY]", Some(kind)),
        LoggedLine::Fail(kind) => ("[REFRESH-FAIL]", Some(kind)),
    };
    // Two refreshes, since the second one uses the token of the first.
    // A response that hangs is requested again shortly before GHL's grace ends.
    until(name, 3 * PATIENCE, || async {
        let log = lines(&up.program, &refreshed);
        let rest = lines(&up.program, &id);
        // Without a lifetime in the response, a day is assumed. The sandbox's token expires earlier.
        let wanted = if name == "only-tokens" { 1 } else { 2 };
        holds(log.len() >= wanted, rest)
    })
    .await;
    let logged: Vec<String> = lines(&up.program, &id)
        .into_iter()
        .filter(|line| line.contains("[REFRESH-"))
        // A busy machine may start a call too late, and then does not send it.
        .filter(|line| !line.contains("no time left for the call"))
        .collect();
    match kind {
        None => assert!(logged.is_empty(), "{name}: {logged:#?}"),
        Some(kind) => {
            assert_eq!(logged.len(), 1, "{name} is logged once: {logged:#?}");
            let kind = format!(r#""kind":"{kind}""#);
            assert!(
                logged[0].contains(tag) && logged[0].contains(&kind),
                "{name}: {}",
                logged[0]
            );
        }
    }
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (code, body) = get(&up.client, &url).await;
    assert_eq!(code, 200, "{name}: {body}");
    let chain = up.sandbox.chain(name).await;
    let tally = &chain["installations"][0];
    assert_eq!(tally["replays_in_grace"], case.replays, "{name}: {chain}");
    assert_eq!(tally["spent_outside_grace"], 0, "{name}: {chain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn response_lost_without_grace_is_reported_within_two_minutes() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "12s"),
        ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
    ])
    .await;
    let id = up.install("locA").await;
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "process_then_lose", "next": 1 }]))
        .await;
    let line = up
        .program
        .wait_for_line(&["[REFRESH-FAIL]", &id], Duration::from_secs(120))
        .await;
    assert!(line.contains(r#""kind":"lost""#), "{line}");
    assert!(line.contains("connect again at /oauth/install"), "{line}");
    let logged = lines(&up.program, "[REFRESH-RETRY]");
    assert_eq!(logged.len(), 3, "ambiguous, and suspect twice: {logged:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inactive_location_keeps_its_refresh_token_unspent() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "12s")]).await;
    let id = up.install("locA").await;
    up.sandbox.steer("pause", "locA").await;
    let line = up
        .program
        .wait_for_line(&["[REFRESH-RETRY]", &id], PATIENCE)
        .await;
    assert!(
        line.contains(r#""kind":"paused""#) && line.contains("in 1"),
        "a quarter of an hour: {line}"
    );
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 0, "{ledger}");

    up.sandbox.steer("resume", "locA").await;
    // An operator need not wait for the schedule.
    let refresh = up.command(&["installations", "refresh", &id]).run().await;
    assert!(refresh.status.success(), "{refresh:?}");
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 1, "{ledger}");
    let refreshed = format!("[REFRESH] {id}");
    until("scheduled refreshes to continue", PATIENCE, || async {
        let log = lines(&up.program, &refreshed);
        holds(log.len() >= 2, log)
    })
    .await;
}
