//! User contexts of GHL's custom pages, made by crypto-js 4.2.0 with the shared secrets below.

use serde_json::{Value, json};
use tests::client::{self, send};
use tests::fleet::Member;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::testbed::Testbed;
use tests::up::Up;

use crate::browser_keys::{ECHO, backend_key};

/// The shared secret of the default app.
const SECRET: &str = "6f1f6b0e-3a0f-4a52-9b7c-5d1a2c3e4f50";
/// That of another app.
const STAGING_SECRET: &str = "0d9c8b7a-1111-4222-8333-abcdefabcdef";

/// Of Ada Lovelace on a page for `locA`.
pub(crate) const LOC_A: &str = "U2FsdGVkX1/xHUrcGBCKgQhjCDu3vvRDzeIa05vJK8AJmDmhvY7vjxVO1mprgV0h7c7OJ0Gggoa5wMQaqTTqdWKCH9Z48FeOE+GxgXJUWo3YYk+Zu79k4ya3bm+c4FtKATfEsQUaRrB/jyQ1bChGJut1HOWN/OGTBstiWBMN1rqh42ejaQgu4JMxhMzf8lzgiKHaiJcdOm6U3LAxyl4Nl6D73eCxDrtTBHGNo8/tWPI=";
/// On a page for a location of the sandbox's agency.
const HARBOR: &str = "U2FsdGVkX1+KX3+0S7Uw49IVfwGkjspuzyReeF3k8Pjb6z2/19NwouWevYCl9y/qQVDnFuK19nNpXn2pifkrGlxngMIBdVvVcaQhByIAyoNa9A1M5VzXDMHo1S8SGxbmcOMIYfYg+D8XQKXY4QHblikAI6+TZk2TGIgHLKDx+oCiIw7b3ZSqhp+g1Jy6gAyVKPzK9rODBFzY0UMK6zDmpMDUbiJfYqhxuI7UPPPSEg3jeXxp0Hs1ujVpSKRWTMwI";
/// On a page of the other app.
const STAGING_LOC_A: &str = "U2FsdGVkX1+c0SsQwIW1YrOhOCq5SFbFu+yUhJQRPHchegLi5JqKqyRnx5ZR9/NKSA1HQ1BSGvF1DBX/y+UWOc+p3PxrkrXGRRCEu7iylufi6jzh5jqiAWyn1wL8Ix7ai9DLUzRC+L8c7PRMN1KGHRSbPMs/fcc2UqQb0RHq6GcBcyeQ6gQAM0wE9tw7nFqX6YFSWuYbZkASuA8XCy4wwn0YyhZrx4pwRjSCCS4JmJc=";
/// On a page for the agency.
const AGENCY: &str = "U2FsdGVkX1+GbNRbWjZmYW2iOy0DsBp0v1MPfsEAKI7qqpNkwi3HCHjeyyY6HB7q4QZPUVwLER9trYclfK95a3cbbVZ7SZvpkvBCg7kSvlcZb4bq8T5XrS3BPAt3xGbGkCBGGg7qxlBzqtS6vNmkdHe2AwXKdHH3W6k9jRCApR8TckclM42UisIDANsX3MZvlKwsS/97rtCqfvRNCUgh6Q==";

async fn decrypt(internal: &str, backend: &str, request: &Value) -> (u16, Value) {
    let ask = client::anonymous().post(format!("{internal}/v1/sso/decrypt"));
    send(ask.bearer_auth(backend).json(request)).await
}

/// The location that a call with the browser key of an answer arrives for.
async fn location_of_call(public: &str, opened: &Value) -> Value {
    let key = opened["browser_key"]["key"].as_str().unwrap();
    let call = client::anonymous().get(format!("{public}/ghl/_sandbox/echo/x"));
    let (status, arrived) = send(call.bearer_auth(key)).await;
    assert_eq!(status, 200, "{arrived}");
    arrived["authClassId"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn user_context_is_opened_with_a_key_for_the_location_that_has_the_app() {
    let secrets = format!("of-tomorrow, {SECRET}");
    let up = Up::start(&[("GHL_SSO_KEY", &secrets)]).await;
    let backend = backend_key(&up.internal, json!({})).await;
    let wanted = json!({ "encryptedData": LOC_A, "calls": [ECHO], "expires_in": 60 });
    let (status, opened) = decrypt(&up.internal, &backend, &wanted).await;
    assert_eq!(status, 200, "{opened}");
    let user = json!({
        "userId": "u7Ty2", "companyId": "sandboxCompany", "role": "user", "type": "location",
        "activeLocation": "locA", "userName": "Ada Lovelace", "email": "ada@example.com",
    });
    let none = json!({
        "user": user, "app": "default", "installation_id": null, "browser_key": null,
    });
    assert_eq!(opened, none, "the location has not installed the app");

    let id = up.install("locA").await;
    up.install("locB").await;
    let (_, opened) = decrypt(&up.internal, &backend, &wanted).await;
    assert_eq!(opened["installation_id"], json!(id));
    assert_eq!(opened["browser_key"]["installation_id"], json!(id));
    assert_eq!(location_of_call(&up.public, &opened).await, "locA");

    let without_calls = json!({ "encrypted_data": LOC_A });
    let (_, opened) = decrypt(&up.internal, &backend, &without_calls).await;
    assert_eq!(opened["installation_id"], json!(id));
    assert_eq!(opened["browser_key"], Value::Null);
    let of_agency = json!({ "encryptedData": AGENCY, "calls": [ECHO] });
    let (_, opened) = decrypt(&up.internal, &backend, &of_agency).await;
    assert_eq!(opened["user"]["type"], "agency");
    assert_eq!(opened["browser_key"], Value::Null);

    // For a key that is not for it, the location has not installed the app.
    let other = up.install("locC").await;
    let limited = backend_key(&up.internal, json!({ "installations": [other] })).await;
    let (_, opened) = decrypt(&up.internal, &limited, &wanted).await;
    assert_eq!(opened, none);
    let connect = backend_key(&up.internal, json!({ "scopes": ["connect"] })).await;
    assert_eq!(decrypt(&up.internal, &connect, &without_calls).await.0, 200);
    let (status, body) = decrypt(&up.internal, &connect, &wanted).await;
    let expected = (403, &json!("api_key_scope_missing"));
    assert_eq!((status, &body["code"]), expected);

    let revoked = up
        .command(&["installations", "revoke", &id, "--yes"])
        .run()
        .await;
    assert!(revoked.status.success(), "{revoked:?}");
    let (_, opened) = decrypt(&up.internal, &backend, &wanted).await;
    assert_eq!(opened, none, "it has removed the app");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_user_context_gets_the_same_answer() {
    let up = Up::start(&[("GHL_SSO_KEY", SECRET)]).await;
    let backend = backend_key(&up.internal, json!({})).await;
    let with_change_at = |at: usize| {
        let other = if &LOC_A[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &LOC_A[..at], &LOC_A[at + 1..])
    };
    let mut answers = Vec::new();
    for wrong in [
        "",
        "x",
        STAGING_LOC_A,
        // The salt, a block in the middle, and the block that the padding of the last one depends on.
        &with_change_at(15),
        &with_change_at(100),
        &with_change_at(LOC_A.len() - 30),
        &LOC_A[..LOC_A.len() - 4],
        &"A".repeat(10_000),
    ] {
        let request = json!({ "encryptedData": wrong });
        answers.push(decrypt(&up.internal, &backend, &request).await);
    }
    assert_eq!(answers[0].0, 400);
    assert_eq!(answers[0].1["code"], "sso_context_invalid");
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_context_is_opened_with_the_secret_of_its_app() {
    let scratch = Scratch::new();
    let (file, secret) = (scratch.join("evergreen.toml"), scratch.join("secret"));
    std::fs::write(&secret, STAGING_SECRET).unwrap();
    let section = format!(
        "[apps.staging]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n\
         sso_key_file = \"{secret}\"\n"
    );
    std::fs::write(&file, section).unwrap();
    let up = Up::start(&[]).await;
    let sandbox = Sandbox::start(&[("APPS", "second-a:secret-a")]).await;
    let up = up.with("EVERGREEN_CONFIG", &file).against(&sandbox).await;
    let default = up.install("locA").await;
    let staging = client::install_app(&up.client, &up.public, "staging", "locA").await;
    assert_ne!(default, staging);

    let any = backend_key(&up.internal, json!({})).await;
    let own = backend_key(&up.internal, json!({ "app": "staging" })).await;
    let named = json!({ "encryptedData": STAGING_LOC_A, "app": "staging", "calls": [ECHO] });
    let unnamed = json!({ "encryptedData": STAGING_LOC_A, "calls": [ECHO] });
    for (backend, request) in [(&any, &named), (&own, &named), (&own, &unnamed)] {
        let (status, opened) = decrypt(&up.internal, backend, request).await;
        assert_eq!(status, 200, "{opened}");
        assert_eq!(opened["app"], "staging");
        assert_eq!(opened["installation_id"], json!(staging));
        assert_eq!(location_of_call(&up.public, &opened).await, "locA");
    }
    let of_default = json!({ "encryptedData": LOC_A, "app": "default" });
    let of_none = json!({ "encryptedData": LOC_A, "app": "x" });
    for (backend, request, expected) in [
        (&any, &unnamed, (409, "sso_key_missing")),
        (&own, &of_default, (403, "api_key_scope_missing")),
        (&any, &of_none, (400, "app_unknown")),
    ] {
        let (status, body) = decrypt(&up.internal, backend, request).await;
        assert_eq!((status, body["code"].as_str().unwrap()), expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_pass_user_contexts_on_and_have_no_shared_secret() {
    let testbed = Testbed::start(0, "24h").await;
    let page = format!("{}/v2/oauth/chooselocation", testbed.sandbox.url);
    let settings = [
        ("GHL_SSO_KEY", SECRET.to_owned()),
        ("GHL_AUTHORIZE_URL", page),
    ];
    let broker = testbed.broker("one", &settings).await;
    let broker_url = format!("http://{}", broker.address);
    let start = || testbed.gateway().env("EVERGREEN_BROKER_URL", &broker_url);
    let gateway = Member::start(start()).await;
    let agency = tests::sandbox::AGENCY;
    let agency = client::install_agency(&client::new(), &broker_url, agency).await;
    let backend = backend_key(&broker.internal, json!({ "installations": [agency] })).await;
    for internal in [&gateway.internal, &broker.internal] {
        let wanted = json!({ "encryptedData": HARBOR, "calls": [ECHO] });
        let (status, opened) = decrypt(internal, &backend, &wanted).await;
        assert_eq!(status, 200, "{opened}");
        let public = format!("http://{}", gateway.address);
        let location = location_of_call(&public, &opened).await;
        assert_eq!(location, "sandboxHarborDental1", "a location of the agency");
    }
    let refused = start().env("GHL_SSO_KEY", SECRET).run().await;
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{message}");
    let said = "GHL_SSO_KEY must not be given to a gateway";
    assert!(message.contains(said), "{message}");
    assert!(!message.contains(SECRET), "{message}");
}
