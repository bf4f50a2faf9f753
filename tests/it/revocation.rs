//! Revoked grants: three attempts detect one, callers are told how to reconnect, and a consent reactivates it.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;
use tests::client::{self, get, send};
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// A refused token is retried for a minute.
const UNTIL_INVALID: Duration = Duration::from_secs(100);

/// The request to which GHL redirects the browser after the consent.
async fn consented(up: &Up, location: &str) -> RequestBuilder {
    let choice = ("locationId", location);
    let callback = client::consented(&up.client, &up.public, choice).await;
    callback.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_grant_becomes_invalid_after_three_attempts() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    let id = up.install("locA").await;
    let healthy = up.install("locB").await;
    up.sandbox.steer("revoke", "locA").await;
    let line = up
        .program
        .wait_for_line(&["[REFRESH-FAIL]", &id], UNTIL_INVALID)
        .await;
    let (_, error) = line.split_once(&format!("[REFRESH-FAIL] {id} ")).unwrap();
    let error: serde_json::Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["kind"], "invalid_grant");

    let status = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "invalid", "{seen}");
    assert_eq!(seen["reconnect"], "/oauth/install");
    let products = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (code, body) = until("calls to be rejected", PATIENCE, || async {
        let (code, body) = get(&up.client, &products).await;
        if code == 400 {
            Ok((code, body))
        } else {
            Err(body.to_string())
        }
    })
    .await;
    assert!(
        body["message"].as_str().unwrap().contains("reconnect"),
        "{code} {body}"
    );
    assert!(body.to_string().contains("/oauth/install"), "{body}");

    // Other installations are still refreshed, and this one is not attempted again.
    up.program
        .wait_for_line(&["[REFRESH]", &healthy], PATIENCE)
        .await;
    let seen = up
        .program
        .log()
        .iter()
        .filter(|line| line.contains("[REFRESH] "))
        .count();
    until("two more refreshes", PATIENCE, || async {
        let now = up
            .program
            .log()
            .iter()
            .filter(|line| line.contains("[REFRESH] "))
            .count();
        holds(now >= seen + 2, now)
    })
    .await;
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["token_calls"]["invalid_grant"], 3, "{ledger}");
    let failures = up
        .program
        .log()
        .iter()
        .filter(|line| line.contains("[REFRESH-FAIL]"))
        .count();
    assert_eq!(failures, 1);

    assert_eq!(up.install("locA").await, id, "the same installation");
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "valid", "{seen}");
    until("calls to work again", PATIENCE, || async {
        let (code, body) = get(&up.client, &products).await;
        holds(code == 200, body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callback_rejects_forged_states_and_exchanges_no_code_twice() {
    let up = Up::start(&[]).await;
    let callback = consented(&up, "locA").await;
    let again = callback.try_clone().unwrap();
    let (code, connected) = send(callback).await;
    assert_eq!(code, 200, "{connected}");
    assert_eq!(send(again).await, (200, connected), "it connects nothing");
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["token_calls"]["code_exchanged"], 1, "{ledger}");
    assert_eq!(ledger["token_calls"]["invalid_grant"], 0, "{ledger}");
    // The link of one browser, opened in another.
    let link = consented(&up, "locB").await.build().unwrap().url().clone();
    let (code, body) = get(&up.client, link.as_str()).await;
    assert_eq!(
        (code, &body["code"]),
        (400, &json!("consent_state_invalid"))
    );
    assert!(
        body["message"].to_string().contains("another browser"),
        "{body}"
    );
    let forged = format!("{}/oauth/callback?code=x&state=forged", up.public);
    let (code, body) = get(&up.client, &forged).await;
    assert_eq!(code, 400);
    assert!(
        body["hint"].as_str().unwrap().contains("/oauth/install"),
        "{body}"
    );
    let denied = format!("{}/api/oauth/callback?error=access_denied", up.public);
    let (code, body) = get(&up.client, &denied).await;
    assert_eq!(code, 400);
    assert!(
        body["message"].as_str().unwrap().contains("access_denied"),
        "{body}"
    );

    let person = |url: String| up.client.get(url).header("accept", "text/html,*/*");
    let (page, _) = client::redirect(person(forged)).await.unwrap();
    let page = person(format!("{}{page}", up.public)).send().await.unwrap();
    let kind = page.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let page = page.text().await.unwrap();
    assert!(
        page.contains("Not connected") && page.contains("/oauth/install"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_of_paused_location_resumes() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    up.sandbox.steer("pause", "locA").await;
    let refresh = up.command(&["installations", "refresh", &id]);
    assert!(!refresh.run().await.status.success());
    let status = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "paused", "{seen}");
    assert_ne!(seen["nextRefreshAt"], json!(null), "a retry is scheduled");
    up.sandbox.steer("resume", "locA").await;
    assert!(refresh.run().await.status.success());
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "valid", "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_exchange_completes_after_browser_disconnects() {
    let up = Up::start(&[]).await;
    let callback = consented(&up, "locA").await;
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "slow_body", "ms": 1500, "next": 1 }]))
        .await;
    let impatient = callback.timeout(Duration::from_millis(500)).send().await;
    assert!(impatient.is_err(), "the browser left before the response");
    until("the installation", PATIENCE, || async {
        let url = format!("{}/api/oauth/status?locationId=locA", up.public);
        let (code, body) = get(&up.client, &url).await;
        holds(code == 200, body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_lists_shows_and_revokes_installations() {
    let up = Up::start(&[]).await;
    let (kept, ended) = (up.install("kept").await, up.install("ended").await);
    let run = async |args: &[&str]| {
        let output = up.command(args).run().await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["installations", "revoke", "ended"]).await;
    let listed = run(&["installations", "list"]).await;
    let line = |id: &str| {
        listed
            .lines()
            .find(|line| line.contains(id))
            .unwrap()
            .to_owned()
    };
    assert!(line(&kept).contains("valid"), "{listed}");
    assert!(line(&ended).contains("revoked"), "{listed}");
    let shown = run(&["installations", "show", &ended]).await;
    assert!(shown.contains("revoked by an operator"), "{shown}");
    let url = format!("{}/api/ghl/products?installation_id={ended}", up.public);
    until("calls to be rejected", PATIENCE, || async {
        let (code, body) = get(&up.client, &url).await;
        holds(
            code == 400 && body.to_string().contains("/oauth/install"),
            body,
        )
    })
    .await;
    let unknown = up.command(&["installations", "show", "nobody"]).run().await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("Installation not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_codes_are_limited() {
    let up = Up::start(&[("EVERGREEN_CONSENT_RATE", "3/1h")]).await;
    let mut statuses = Vec::new();
    for number in 0..5 {
        let callback = consented(&up, "locA").await.build().unwrap();
        let mut url = callback.url().clone();
        let state = url.query_pairs().find(|(name, _)| name == "state");
        let state = state.unwrap().1.into_owned();
        url.set_query(Some(&format!("code=made-up-{number}&state={state}")));
        let cookie = callback.headers()["cookie"].clone();
        let (status, _) = send(up.client.get(url).header("cookie", cookie)).await;
        statuses.push(status);
    }
    assert_eq!(statuses, [400, 400, 400, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_begins_at_the_host_of_the_callback() {
    let up = Up::start(&[]).await;
    let port = up.public.rsplit(':').next().unwrap();
    let install = async |host: &str, query: &str| {
        let request = up.client.get(format!("{}/oauth/install{query}", up.public));
        let response = request
            .header("host", format!("{host}:{port}"))
            .send()
            .await
            .unwrap();
        response.headers()["location"].to_str().unwrap().to_owned()
    };
    // The cookie would be of another host than that of GHL_REDIRECT_URI.
    let there = install("localhost", "").await;
    assert!(
        there.ends_with("/oauth/install?moved") && there.contains("127.0.0.1"),
        "{there}"
    );
    for (host, query) in [("127.0.0.1", ""), ("localhost", "?moved")] {
        let page = install(host, query).await;
        assert!(page.contains("/oauth/chooselocation"), "{page}");
    }
}
