//! API keys, their scopes, and listening on addresses that other hosts can reach.

mod first_keys;
mod pages;
mod portal;
mod quota;
mod rights;
mod tokens;

use std::time::Duration;

use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::json;
use store::KeyRing;
use tests::client::{self, get, send};
use tests::port;
use tests::program::{Start, wait_for_port};
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(90);

/// The promise is one second. The rest is for a busy machine.
const WITHIN_A_SECOND: Duration = Duration::from_millis(1500);

/// The id of no installation.
const UNKNOWN_ID: &str = "install_000000000000000000000000";

/// Creates a key with the command line, as an operator does.
async fn create_key(up: &Up, more: &[&str]) -> String {
    key_of(up.command(&[&["keys", "create"], more].concat())).await
}

async fn key_of(create: Start) -> String {
    let made = create.run().await;
    assert!(made.status.success(), "{made:?}");
    let shown = String::from_utf8(made.stdout).unwrap();
    let key = shown.trim_end();
    assert!(
        key.starts_with("evg_") && key.len() > 40 && key.lines().count() == 1,
        "the output is only the key: {shown}"
    );
    key.to_owned()
}

/// A call that the sandbox's echo answers with the request it received. Without a key.
fn echo(up: &Up) -> RequestBuilder {
    client::anonymous().get(format!("{}/ghl/_sandbox/echo/x", up.public))
}

fn echo_of(up: &Up, id: &str) -> RequestBuilder {
    echo(up).header("x-installation-id", id)
}

/// Waits until a request is answered with this status. Returns how long that took.
async fn until_status(
    expected: u16,
    patience: Duration,
    request: impl Fn() -> RequestBuilder,
) -> Duration {
    let started = Instant::now();
    until(
        &format!("a response with status {expected}"),
        patience,
        || async {
            let (status, body) = send(request()).await;
            holds(status == expected, (status, body))
        },
    )
    .await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_needs_no_key_from_this_machine_and_refuses_wrong_ones() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let status_url = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let open = client::anonymous();
    assert_eq!(send(echo_of(&up, &id)).await.0, 200);
    assert_eq!(get(&open, &status_url).await.0, 200);
    // Not through a proxy, and not from a page.
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7"),
        ("origin", "http://evil.example"),
    ] {
        let (status, refusal) = send(echo_of(&up, &id).header(name, value)).await;
        assert_eq!(status, 401, "{name}");
        assert!(refusal["hint"].to_string().contains("keys create"));
    }

    let key = create_key(&up, &["--name", "shop"]).await;
    for request in [
        echo_of(&up, &id).bearer_auth(&key),
        echo_of(&up, &id).header("authorization", format!("bearer {key}")),
        echo_of(&up, &id).header("x-api-key", &key),
        open.get(&status_url).bearer_auth(&key),
        open.get(&status_url).header("x-api-key", &key),
    ] {
        let (status, body) = send(request).await;
        assert_eq!(status, 200, "{body}");
    }
    let wrong = format!("{key}0");
    for request in [
        echo_of(&up, &id).bearer_auth(&wrong),
        echo_of(&up, &id).header("x-api-key", &wrong),
        open.get(&status_url).bearer_auth(&wrong),
    ] {
        assert_eq!(send(request).await.0, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_and_tokens_always_need_a_key() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let open = client::anonymous();
    let url = |path: &str| format!("{}{path}", up.internal);
    let new_key = json!({ "name": "x", "scopes": ["admin"] });
    for request in [
        open.get(url("/v1/installations")),
        open.get(url(&format!("/v1/installations/{id}/token"))),
        open.post(url(&format!("/v1/installations/{id}/revoke"))),
        open.get(url("/v1/keys")),
        open.post(url("/v1/keys")).json(&new_key),
    ] {
        let what = format!("{request:?}");
        let (status, body) = send(request).await;
        assert_eq!(
            (status, &body["code"]),
            (401, &json!("api_key_missing")),
            "{what}"
        );
    }
    // With a key, but by a page of somebody else.
    for (name, value, code) in [
        ("host", "evil.example:9080", "host_not_allowed"),
        ("origin", "http://evil.example", "cross_site_request"),
        ("sec-fetch-site", "cross-site", "cross_site_request"),
    ] {
        for path in [
            "/v1/keys".to_owned(),
            format!("/v1/installations/{id}/token"),
        ] {
            let (status, body) = send(up.client.get(url(&path)).header(name, value)).await;
            assert_eq!(
                (status, &body["code"]),
                (403, &json!(code)),
                "{path} {name}"
            );
        }
    }
    let form = up.client.post(url("/v1/keys"));
    let form = form
        .header("content-type", "text/plain")
        .body(new_key.to_string());
    let (status, body) = send(form).await;
    assert_eq!(
        (status, &body["code"]),
        (415, &json!("content_type_unsupported"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_rejected_within_a_second() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let key = create_key(&up, &["--name", "shop"]).await;
    let other = create_key(&up, &["--name", "desk"]).await;
    let call = |key: &str| echo_of(&up, &id).bearer_auth(key);
    until_status(200, PATIENCE, || call(&key)).await;

    let revoked = up.command(&["keys", "revoke", "shop"]).run().await;
    assert!(revoked.status.success(), "{revoked:?}");
    let waited = until_status(401, PATIENCE, || call(&key)).await;
    assert!(waited < WITHIN_A_SECOND, "{waited:?}");
    assert_eq!(
        send(call(&other)).await.0,
        200,
        "the other key is still valid"
    );
    let again = up.command(&["keys", "revoke", "shop"]).run().await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");

    let revoked = up.command(&["keys", "revoke", "desk"]).run().await;
    assert!(revoked.status.success(), "{revoked:?}");
    until_status(401, PATIENCE, || call(&other)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_expires() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let key = create_key(&up, &["--name", "guest", "--expires-in", "5s"]).await;
    let call = || echo_of(&up, &id).bearer_auth(&key);
    assert_eq!(send(call()).await.0, 200);
    until_status(401, PATIENCE, call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_installation_key_needs_no_selector_and_reveals_no_others() {
    let up = Up::start(&[]).await;
    let own = up.install("locA").await;
    let other = up.install("locB").await;
    let key = create_key(&up, &["--name", "a", "--installation", &own]).await;
    let mine = |request: RequestBuilder| send(request.bearer_auth(&key));

    let (status, body) = mine(echo(&up)).await;
    assert_eq!((status, &body["authClassId"]), (200, &json!("locA")));
    for name in [own.as_str(), "locA"] {
        let (status, body) = mine(echo_of(&up, name)).await;
        assert_eq!((status, &body["authClassId"]), (200, &json!("locA")));
    }

    let named = |way: &str, name: &str| {
        let url = format!("{}/ghl/_sandbox/echo/x?{way}={name}", up.public);
        up.client.get(url)
    };
    let body_of = |name: &str| {
        let body = json!({ "locationId": name });
        up.client
            .post(format!("{}/ghl/_sandbox/echo/x", up.public))
            .json(&body)
    };
    let status_of = |name: &str| {
        let url = format!("{}/api/oauth/status?installation_id={name}", up.public);
        up.client.get(url)
    };
    for (there, not_there) in [
        (echo_of(&up, &other), echo_of(&up, UNKNOWN_ID)),
        (echo_of(&up, "locB"), echo_of(&up, "locX")),
        (
            named("installation_id", &other),
            named("installation_id", UNKNOWN_ID),
        ),
        (named("locationId", "locB"), named("locationId", "locX")),
        (named("altId", "locB"), named("altId", "locX")),
        (
            up.client.get(format!("{}/ghl/locations/locB", up.public)),
            up.client.get(format!("{}/ghl/locations/locX", up.public)),
        ),
        (body_of("locB"), body_of("locX")),
    ] {
        let what = format!("{there:?}");
        let (status, refusal) = mine(there).await;
        assert_eq!(status, 403, "{what}: {refusal}");
        assert_eq!(mine(not_there).await, (status, refusal), "{what}");
    }
    let (status, refusal) = mine(status_of(&other)).await;
    assert!((400..500).contains(&status), "{status} {refusal}");
    assert_eq!(mine(status_of(UNKNOWN_ID)).await, (status, refusal));
    assert_eq!(mine(status_of(&own)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_installation_key_requires_a_selector() {
    let up = Up::start(&[]).await;
    let ids = [up.install("locA").await, up.install("locB").await];
    let apart = up.install("locC").await;
    let [one, two] = &ids;
    let few = create_key(
        &up,
        &[
            "--name",
            "few",
            "--installation",
            one,
            "--installation",
            two,
        ],
    )
    .await;
    let all = create_key(&up, &["--name", "all"]).await;
    for key in [&few, &all] {
        let (status, body) = send(echo(&up).bearer_auth(key)).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("installation_not_named"))
        );
        for id in &ids {
            assert_eq!(send(echo_of(&up, id).bearer_auth(key)).await.0, 200);
        }
    }
    assert_eq!(send(echo_of(&up, &apart).bearer_auth(&few)).await.0, 403);
    assert_eq!(send(echo_of(&up, &apart).bearer_auth(&all)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_is_shown_once_and_never_forwarded_stored_or_logged() {
    let up = Up::start(&[("EVERGREEN_LOG", "debug")]).await;
    let id = up.install("locA").await;
    let key = create_key(&up, &["--name", "shop"]).await;
    for request in [
        echo_of(&up, &id).bearer_auth(&key),
        echo_of(&up, &id).header("x-api-key", &key),
        echo_of(&up, &id)
            .bearer_auth(&key)
            .header("x-api-key", &key),
    ] {
        let (status, arrived) = send(request).await;
        // The sandbox accepts only its own tokens, so the key was not sent as the bearer token either.
        assert_eq!(status, 200, "{arrived}");
        assert_eq!(arrived["headers"]["authorization"], "Bearer …");
        assert!(arrived["headers"].get("x-api-key").is_none(), "{arrived}");
        assert!(!arrived.to_string().contains(&key), "{arrived}");
    }
    assert_eq!(up.sandbox.count("calls_with_unknown_token").await, 0);

    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("shop") && listed.contains("live"),
        "{listed}"
    );
    let log = up.program.log().join("\n");
    let secret = key.strip_prefix("evg_").unwrap();
    assert!(!listed.contains(secret) && !log.contains(secret));
    let file = std::fs::read(format!("{}/store.redb", up.data_dir())).unwrap();
    let is_in = |needle: &str| file.windows(needle.len()).any(|it| it == needle.as_bytes());
    assert!(is_in("shop"), "keys are stored in this file");
    assert!(!is_in(secret), "only the hash of a key is stored");
}

/// `evergreen up` on these two addresses.
fn exposed(scratch: &Scratch, listen: &str, internal: &str) -> Start {
    Start::evergreen(&["up", "--listen", listen, "--internal-listen", internal])
        .args(&["--data-dir", &scratch.join("data")])
        .env(
            "EVERGREEN_SANDBOX_LISTEN",
            format!("127.0.0.1:{}", port::free()),
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_large_upload_receives_its_response() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let large = vec![7; 20_000_000];
    for _ in 0..10 {
        let url = format!("{}/ghl/_sandbox/echo/x", up.public);
        let upload = up.client.put(url).bearer_auth("evg_wrong");
        let upload = upload.header("x-installation-id", &id).body(large.clone());
        assert_eq!(send(upload).await.0, 401);
    }
}
