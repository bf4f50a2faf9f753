//! One-time links: who may make them, and what they do.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_time_link_connects_with_external_id_and_tags() {
    let up = Up::start(&[RETURN_URLS]).await;
    let backend = backend_key(&up.internal, json!({ "scopes": ["connect"] })).await;
    let request = json!({
        "return_to": BACK, "external_id": "org/7:b@example.com", "tags": ["vip", "größe 2"],
    });
    let (status, made) = ask(&up.internal, &backend, &request).await;
    assert_eq!(status, 201, "{made}");
    let link = made["url"].as_str().unwrap();
    assert!(link.contains("/connect/"), "{link}");
    assert!(made["expires_at"].is_string(), "{made}");

    // A scanner of mails opens it first.
    let scanner = Browser::new(&up.public);
    scanner.begin(link).await;
    let head = scanner.client.head(scanner.here(link)).send().await;
    assert!(head.unwrap().status().is_redirection());
    let late = Browser::new(&up.public);
    let of_late = late.callback(link, "locationId=locB").await;

    let browser = Browser::new(&up.public);
    let callback = browser.callback(link, "locationId=locA").await;
    let tab = browser.callback(link, "locationId=locA").await;
    let first = browser.open(&callback).await;
    let result = first.result(BACK);
    let id = result["installation_id"].clone();
    assert_eq!(result["external_id"], "org/7:b@example.com");
    assert_eq!(browser.open(&callback).await.leads_to(), first.leads_to());
    let installation = shown(&up, "org/7:b@example.com").await;
    assert_eq!(installation["installationId"], id.as_str());
    assert_eq!(installation["tags"], json!(["größe 2", "vip"]));
    assert_eq!(exchanges(&up).await, 1);

    // The link is used up. Opening it again shows the outcome, and connects nothing.
    for again in [&browser, &Browser::new(&up.public)] {
        let again_opened = again.open(link).await;
        let page = again.open(again_opened.leads_to()).await;
        assert!(page.body.contains("<h1>Connected</h1>"), "{}", page.body);
    }
    assert_eq!(browser.open(&tab).await.leads_to(), first.leads_to());
    late.open(&of_late).await;
    assert_eq!(exchanges(&up).await, 1, "no other code is spent");
    // GHL has announced the other location. It has nothing of the link.
    let other = shown(&up, "locB").await;
    assert_eq!(
        (&other["externalId"], &other["tags"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(
        shown(&up, "org/7:b@example.com").await["locationId"],
        "locA"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn link_that_was_denied_or_has_failed_can_be_used_again() {
    let up = Up::start(&[RETURN_URLS]).await;
    let link = link(&up.internal, json!({ "return_to": BACK })).await;
    let browser = Browser::new(&up.public);
    let denied = browser.consent(&link, "deny=1").await.result(BACK);
    assert_eq!(denied["status"], "denied");
    let fault = json!([{ "on": "token", "kind": "status", "status": 500, "next": 1 }]);
    up.sandbox.faults(fault).await;
    let failed = browser.consent(&link, "locationId=locA").await.result(BACK);
    assert_eq!(failed["code"], "consent_failed");
    let connected = browser.consent(&link, "locationId=locA").await.result(BACK);
    assert_eq!(connected["status"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_link_begins_no_consent_and_finishes_one() {
    let up = Up::start(&[RETURN_URLS]).await;
    let request = json!({ "return_to": BACK, "external_id": "42", "expires_in": 10 });
    let link = link(&up.internal, request).await;
    let browser = Browser::new(&up.public);
    let callback = browser.callback(&link, "locationId=locA").await;
    let page = until("the end of the link", PATIENCE, || async {
        let page = browser.open(&link).await;
        holds(page.status == 410, &page).map(|()| page)
    })
    .await;
    assert!(page.body.contains("has expired"), "{}", page.body);
    assert!(!page.body.contains("<a "), "nobody can begin again there");
    let (status, body) = get(&browser.client, &browser.here(&link)).await;
    assert_eq!(
        (status, &body["code"]),
        (410, &json!("connect_link_unknown"))
    );
    let never = browser
        .open("/connect/0123456789abcdef0123456789abcdef")
        .await;
    assert_eq!(never.status, 410);
    // A customer who is on GHL's page then may go on.
    let result = browser.open(&callback).await.result(BACK);
    assert_eq!(
        (&*result["status"], &*result["external_id"]),
        ("connected", "42")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn link_moves_an_external_id_and_a_consent_without_one_keeps_it() {
    let up = Up::start(&[RETURN_URLS]).await;
    let connect = async |request: Value, location: &str| {
        let link = link(&up.internal, request).await;
        let choice = format!("locationId={location}");
        let browser = Browser::new(&up.public);
        let redirect = browser.consent(&link, &choice).await;
        let page = browser.open(redirect.leads_to()).await;
        assert!(page.body.contains("<h1>Connected</h1>"), "{}", page.body);
    };
    connect(json!({ "external_id": "42", "tags": ["a", "b"] }), "locA").await;
    connect(json!({}), "locA").await;
    let kept = shown(&up, "locA").await;
    assert_eq!(
        (&kept["externalId"], &kept["tags"]),
        (&json!("42"), &json!(["a", "b"]))
    );
    connect(json!({ "external_id": "42", "tags": ["c"] }), "locB").await;
    let moved = shown(&up, "42").await;
    assert_eq!(
        (&moved["locationId"], &moved["tags"]),
        (&json!("locB"), &json!(["c"]))
    );
    let left = shown(&up, "locA").await;
    assert_eq!(
        (&left["externalId"], &left["tags"]),
        (&json!(null), &json!(["a", "b"]))
    );
    // An installation with another id belongs to another customer. Its own consent changes nothing.
    let request = json!({ "external_id": "43", "tags": ["of 43"] });
    let link_of_43 = link(&up.internal, request).await;
    let browser = Browser::new(&up.public);
    let redirect = browser.consent(&link_of_43, "locationId=locB").await;
    let page = browser.open(redirect.leads_to()).await;
    assert!(page.body.contains("another one already"), "{}", page.body);
    let left = shown(&up, "42").await;
    assert_eq!(left["locationId"], "locB");
    assert!(!left["tags"].to_string().contains("43"), "{left}");
    assert_eq!(shown(&up, "43").await["code"], "installation_not_found");
    // The backend may say otherwise. That frees the earlier id.
    connect(json!({ "external_id": "43", "replace": true }), "locB").await;
    assert_eq!(shown(&up, "43").await["locationId"], "locB");
    assert_eq!(shown(&up, "42").await["code"], "installation_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_than_that_of_the_link_is_connected_and_gets_no_external_id() {
    let up = Up::start(&[RETURN_URLS]).await;
    let first = json!({ "external_id": "42", "tags": ["vip"] });
    let first = link(&up.internal, first).await;
    Browser::new(&up.public)
        .consent(&first, "locationId=locA")
        .await;
    let request = json!({
        "return_to": BACK, "external_id": "42", "tags": ["new"], "location_id": "locA",
    });
    let link = link(&up.internal, request).await;
    let browser = Browser::new(&up.public);
    let result = browser.consent(&link, "locationId=locB").await.result(BACK);
    let seen = (
        &*result["status"],
        &*result["code"],
        &*result["location_id"],
    );
    assert_eq!(seen, ("error", "other_account", "locB"));
    let other = shown(&up, &result["installation_id"]).await;
    assert_eq!(
        (&other["externalId"], &other["tags"]),
        (&json!(null), &json!([]))
    );
    assert_eq!(other["tokenStatus"], "valid", "its tokens are not lost");
    assert_eq!(shown(&up, "42").await["locationId"], "locA");
    // The link is for the right account still.
    let result = browser.consent(&link, "locationId=locA").await.result(BACK);
    assert_eq!(result["status"], "connected", "{result:?}");
    assert_eq!(shown(&up, "42").await["tags"], json!(["new"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_for_all_installations_of_an_app_make_links() {
    let up = Up::start(&[RETURN_URLS]).await;
    let own = up.install("locA").await;
    let connect = |more: Value| {
        let mut rights = json!({ "scopes": ["connect"] });
        for (name, value) in more.as_object().unwrap() {
            rights[name] = value.clone();
        }
        rights
    };
    let plain = connect(json!({}));
    let limited = connect(json!({ "installations": [own] }));
    let of_app = connect(json!({ "app": "default" }));
    let of_other = connect(json!({ "app": "staging" }));
    let proxy = json!({ "scopes": ["proxy", "tokens"] });
    let tags: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let ok = json!({});
    for (rights, request, expected) in [
        (&plain, ok.clone(), (201, "")),
        (&of_app, ok.clone(), (201, "")),
        (&plain, json!({ "app": "default" }), (201, "")),
        (&plain, json!({ "tags": tags[..16] }), (201, "")),
        (&plain, json!({ "expires_in": 604_800 }), (201, "")),
        (&limited, ok.clone(), (403, "api_key_scope_missing")),
        (&of_other, ok.clone(), (400, "app_unknown")),
        (
            &of_other,
            json!({ "app": "default" }),
            (403, "api_key_scope_missing"),
        ),
        (&proxy, ok, (403, "api_key_scope_missing")),
        (&plain, json!({ "app": "staging" }), (400, "app_unknown")),
        (&plain, json!({ "tags": tags }), (400, "request_invalid")),
        (&plain, json!({ "tags": ["a,b"] }), (400, "request_invalid")),
        (
            &plain,
            json!({ "external_id": "a b" }),
            (400, "request_invalid"),
        ),
        (
            &plain,
            json!({ "external_id": own }),
            (400, "request_invalid"),
        ),
        (
            &plain,
            json!({ "location_id": "a b" }),
            (400, "request_invalid"),
        ),
        (&plain, json!({ "expires_in": 0 }), (400, "request_invalid")),
        (
            &plain,
            json!({ "expires_in": 604_801 }),
            (400, "request_invalid"),
        ),
        (
            &plain,
            json!({ "externalId": "42" }),
            (400, "request_invalid"),
        ),
        (
            &plain,
            json!({ "return_to": "https://evil.example/" }),
            (400, "return_url_refused"),
        ),
        (
            &plain,
            json!({ "return_to": "javascript:x" }),
            (400, "return_url_refused"),
        ),
    ] {
        let key = backend_key(&up.internal, rights.clone()).await;
        let (status, body) = ask(&up.internal, &key, &request).await;
        let seen = (status, body["code"].as_str().unwrap_or_default());
        assert_eq!(seen, expected, "{rights} {request}: {body}");
    }
    let open = client::anonymous().post(format!("{}/v1/connect-links", up.internal));
    let (status, body) = send(open.json(&json!({}))).await;
    assert_eq!((status, &body["code"]), (401, &json!("api_key_missing")));
    let public = format!("{}/v1/connect-links", up.public);
    assert_eq!(send(up.client.post(public).json(&json!({}))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn link_of_a_white_label_customer_leads_to_the_other_host() {
    let up = Up::start(&[]).await;
    let up = up
        .with("GHL_CLIENT_ID", "aaa-1")
        .with("GHL_CLIENT_SECRET", "secret");
    let mut up = up.with("GHL_API_URL", "http://127.0.0.1:9");
    up.restart().await;
    for (is_white_label, host) in [
        (false, "marketplace.gohighlevel.com"),
        (true, "marketplace.leadconnectorhq.com"),
    ] {
        let link = link(&up.internal, json!({ "white_label": is_white_label })).await;
        let page = Browser::new(&up.public).begin(&link).await;
        assert!(page.starts_with(&format!("https://{host}/")), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnect_link_is_for_its_own_customer() {
    let up = Up::start(&[RETURN_URLS]).await;
    let first = link(
        &up.internal,
        json!({ "external_id": "org/7", "tags": ["vip"] }),
    )
    .await;
    Browser::new(&up.public)
        .consent(&first, "locationId=locA")
        .await;
    let id = shown(&up, "locA").await["installationId"].clone();
    let rights = json!({ "scopes": ["connect"], "installations": [id] });
    let limited = backend_key(&up.internal, rights).await;
    let ask = |name: &str, key: &str| {
        let path = format!("/v1/installations/{}/reconnect-link", encoded(name));
        let url = format!("{}{path}", up.internal);
        client::anonymous().post(url).bearer_auth(key)
    };
    let (status, made) = send(ask("org/7", &limited)).await;
    assert_eq!(status, 201, "{made}");
    let body = json!({ "return_to": BACK, "expires_in": 60 });
    let (status, made) = send(ask("locA", &limited).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    for (request, expected) in [
        (
            ask("locA", &limited).json(&json!({ "tags": [] })),
            "request_invalid",
        ),
        (ask("locA", &limited).json(&json!([1])), "request_invalid"),
        (
            ask("locA", &limited).json(&json!({ "return_to": "x" })),
            "return_url_refused",
        ),
        (ask("locX", &limited), "installation_not_found"),
    ] {
        let (status, body) = send(request).await;
        assert_eq!(
            (status, body["code"].as_str()),
            (400, Some(expected)),
            "{body}"
        );
    }
    let (status, body) = send(ask("locA", &limited).body("x")).await;
    assert_eq!(
        status, 201,
        "without a content type there is no body: {body}"
    );

    let revoke = format!("{}/v1/installations/locA/revoke", up.internal);
    assert_eq!(send(up.client.post(revoke)).await.0, 200);
    let link = made["url"].as_str().unwrap();
    let browser = Browser::new(&up.public);
    let other = browser.consent(link, "locationId=locB").await.result(BACK);
    assert_eq!(other["code"], "other_account");
    assert_eq!(
        shown(&up, "org/7").await["locationId"],
        "locA",
        "nobody took it"
    );
    let result = browser.consent(link, "locationId=locA").await.result(BACK);
    assert_eq!(result["status"], "connected");
    assert_eq!(id, result["installation_id"].as_str());
    assert_eq!(result["external_id"], "org/7");
    let known = shown(&up, "org/7").await;
    assert_eq!(
        (&known["tokenStatus"], &known["tags"]),
        (&json!("valid"), &json!(["vip"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_what_comes_of_them_are_in_the_audit_log() {
    let up = Up::start(&[]).await;
    let backend = backend_key(&up.internal, json!({})).await;
    let request = json!({ "external_id": "42" });
    let (_, made) = ask(&up.internal, &backend, &request).await;
    let link = made["url"].as_str().unwrap();
    Browser::new(&up.public)
        .consent(link, "locationId=locA")
        .await;
    let id = shown(&up, "42").await["installationId"].clone();
    let url = format!("{}/v1/installations/42", up.internal);
    let change = up.client.patch(&url).json(&json!({ "tags": ["vip"] }));
    assert_eq!(send(change).await.0, 200);
    assert_eq!(send(up.client.delete(&url)).await.0, 200);
    until("the entries", PATIENCE, || async {
        let (_, log) = get(&up.client, &format!("{}/v1/audit", up.internal)).await;
        let entries = log["entries"].as_array().cloned().unwrap_or_default();
        let has = |action: &str, of: &Value, by: &str| {
            let is = |it: &Value| {
                it["action"] == action && it["installation"] == *of && it["by"]["name"] == by
            };
            entries.iter().any(is)
        };
        let is_made = has("connect_link_created", &json!(null), "backend");
        let is_connected = entries
            .iter()
            .any(|it| it["action"] == "installation_connected");
        let local = "local administrator";
        let is_changed = has("installation_changed", &id, local);
        let is_deleted = has("installation_deleted", &id, local);
        let all = is_made && is_connected && is_changed && is_deleted;
        holds(all, &entries)
    })
    .await;
    let log = up.program.log().join("\n");
    let token = link.rsplit('/').next().unwrap();
    assert!(!log.contains(token), "the link is a secret");
}
