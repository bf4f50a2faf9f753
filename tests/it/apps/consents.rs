//! Consents of several apps, consents that begin in GHL's marketplace, and private integration tokens.

use tests::program::Start;

use super::*;

/// Begins a consent in GHL's marketplace: without a state. Returns the callback's query.
async fn marketplace_consent(apps: &TwoApps, client_id: &str, callback: &str) -> String {
    let page = format!(
        "{}/v2/oauth/chooselocation?response_type=code&client_id={client_id}&redirect_uri={callback}&scope=contacts.readonly&locationId=loc1",
        apps.sandbox.url
    );
    let (callback, _) = client::redirect(apps.up.client.post(page)).await.unwrap();
    callback.split_once('?').unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_that_begins_in_the_marketplace_is_for_the_app_of_the_callback() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    for (client_id, path, app) in [
        ("second-a", "/oauth/callback/staging", "staging"),
        ("sandbox-client", "/oauth/callback", "default"),
    ] {
        let callback = format!("http://127.0.0.1:8080{path}");
        let query = marketplace_consent(&apps, client_id, &callback).await;
        let url = format!("{}{path}?{query}", apps.up.public);
        let (status, body) = get(&apps.up.client, &url).await;
        assert_eq!(status, 200, "{body}");
        let id = body["installationId"].as_str().unwrap();
        assert_eq!(apps.shown(id).await["app"], app);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn required_state_refuses_it_with_a_link_to_begin_again() {
    let apps = TwoApps::start(STAGING, &[], &[("EVERGREEN_REQUIRE_STATE", "true")]).await;
    let path = "/oauth/callback/staging";
    let callback = format!("http://127.0.0.1:8080{path}");
    let query = marketplace_consent(&apps, "second-a", &callback).await;
    let url = format!("{}{path}?{query}", apps.up.public);
    let (status, body) = get(&apps.up.client, &url).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("consent_state_invalid"))
    );
    let person = |url: &str| apps.up.client.get(url).header("accept", "text/html");
    let (page, _) = client::redirect(person(&url)).await.unwrap();
    let (_, page) = client::send(person(&format!("{}{page}", apps.up.public))).await;
    let page = page.as_str().unwrap();
    assert!(
        page.contains("href=\"/oauth/install?app=staging\""),
        "{page}"
    );
    apps.install_staging("loc1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_one_app_is_refused_at_the_callback_of_another() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    let begin = format!("{}/oauth/install", apps.up.public);
    let (page, cookie) = client::redirect(apps.up.client.get(&begin)).await.unwrap();
    let page = apps.up.client.post(format!("{page}&locationId=loc1"));
    let (callback, _) = client::redirect(page).await.unwrap();
    let query = callback.split_once('?').unwrap().1;
    let at = |path: &str| {
        let url = format!("{}{path}?{query}", apps.up.public);
        client::send(apps.up.client.get(url).header("cookie", &cookie))
    };
    let (status, body) = at("/oauth/callback/staging").await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("consent_state_invalid"))
    );
    assert_eq!(at("/oauth/callback").await.0, 200, "the code was not spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_for_an_unknown_app_says_so() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    for query in ["app=another", "app=a%20b"] {
        let url = format!("{}/oauth/install?{query}", apps.up.public);
        let (status, body) = get(&apps.up.client, &url).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("app_unknown")),
            "{query}"
        );
    }
    let url = format!("{}/oauth/install?white_label=perhaps", apps.up.public);
    let (status, body) = get(&apps.up.client, &url).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("request_invalid")),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn link_for_a_white_label_customer_leads_to_the_other_host() {
    let up = Up::start(&[]).await;
    let mut up = up
        .with("GHL_CLIENT_ID", "aaa-1")
        .with("GHL_CLIENT_SECRET", "secret")
        .with("GHL_API_URL", "http://127.0.0.1:9");
    up.restart().await;
    for (query, host, window) in [
        ("", "marketplace.gohighlevel.com", false),
        (
            "?white_label=true",
            "marketplace.leadconnectorhq.com",
            false,
        ),
        (
            "?white_label=true&login_window=self",
            "marketplace.leadconnectorhq.com",
            true,
        ),
    ] {
        let begin = up.client.get(format!("{}/oauth/install{query}", up.public));
        let (link, _) = client::redirect(begin).await.unwrap();
        assert!(link.starts_with(&format!("https://{host}/")), "{link}");
        assert_eq!(link.contains("loginWindowOpenMode=self"), window, "{link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_integration_token_is_an_installation_like_others() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    apps.install_staging("loc1").await;
    let token = get(
        &apps.up.client,
        &format!("{}/v1/installations/loc1/token", apps.up.internal),
    )
    .await;
    let token = token.1["access_token"].as_str().unwrap().to_owned();
    let add = async |token: &str, args: &str| {
        let command = apps.up.command(&[]);
        let program = command.program.display().to_string();
        let script = format!(
            "printf '%s\\n' '{token}' | {program} installations add-token --output json {args}"
        );
        let mut start = Start::new("bash").args(&["-c", &script]);
        start.env = command.env;
        start.run().await
    };
    let added = add(&token, "--location loc2").await;
    assert!(added.status.success(), "{added:?}");
    let added: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(
        (&added["tokenStatus"], &added["app"]),
        (&json!("static"), &json!("default"))
    );
    let id = added["installationId"].as_str().unwrap();
    let call = format!("{}/ghl/contacts/?installation_id={id}", apps.up.public);
    let sent = get(&apps.up.client, &call).await;
    assert_ne!(sent.1["code"], "installation_not_found", "{sent:?}");

    let replaced = add("pit-another", "--location loc2").await;
    let replaced: Value = serde_json::from_slice(&replaced.stdout).unwrap();
    assert_eq!(replaced["installationId"], id, "it is replaced");
    assert_eq!(replaced["generation"], "2");
    let refused = add(&token, "--app staging --location loc1").await;
    assert!(!refused.status.success(), "a consent is not replaced");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("connected by consent"), "{refused}");
    let refused = add("two words", "--location loc3").await;
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("no access token"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_page_names_the_app_that_the_customer_came_for() {
    let settings = format!("{STAGING}title = \"Staging & Co\"\n");
    let apps = TwoApps::start(&settings, &[], &[]).await;
    let make = apps
        .up
        .client
        .post(format!("{}/v1/connect-links", apps.up.internal));
    let (status, made) =
        client::send(make.json(&json!({ "app": "staging", "expires_in": 1 }))).await;
    assert_eq!(status, 201, "{made}");
    let token = made["url"].as_str().unwrap().rsplit('/').next().unwrap();
    let link = format!("/connect/{token}");
    for path in [link.as_str(), "/oauth/install?app=staging&external_id=x"] {
        let page = until("the page of an error", PATIENCE, || async {
            let open = client::anonymous().get(format!("{}{path}", apps.up.public));
            let response = open.header("accept", "text/html").send().await.unwrap();
            let is_error = response.status().is_client_error();
            let page = response.text().await.unwrap();
            holds(is_error, &page).map(|()| page)
        })
        .await;
        assert!(page.contains("Staging &amp; Co"), "{path}: {page}");
    }
}
