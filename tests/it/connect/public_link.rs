//! The public link, which anybody can write, and what comes back to the product.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn customer_returns_to_the_product_with_the_installation() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let query = "return_to=https%3A%2F%2Fapp.example%2Fdone%3Ftab%3D2&external_id=org%2F7";
    let callback = browser
        .callback(&public_link(query), "locationId=locA")
        .await;
    let first = browser.open(&callback).await;
    let result = first.result(BACK);
    let id = result["installation_id"].clone();
    let expected = [
        ("tab", "2"),
        ("status", "connected"),
        ("installation_id", &*id),
        ("location_id", "locA"),
        ("external_id", "org/7"),
    ];
    for (name, value) in expected {
        assert_eq!(result[name], value, "{result:?}");
    }
    assert!(!result.contains_key("code"), "{result:?}");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(first.header("referrer-policy"), Some("no-referrer"));
    let again = browser.open(&callback).await;
    assert_eq!(again.leads_to(), first.leads_to(), "a reload is harmless");
    assert_eq!(exchanges(&up).await, 1);
    assert_eq!(shown(&up, "org/7").await["installationId"], id.as_str());
    assert_eq!(shown(&up, "locA").await["externalId"], "org/7");
}

#[tokio::test(flavor = "multi_thread")]
async fn agency_comes_back_with_its_company() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}"));
    let consented = browser.consent(&link, "companyId=sandboxNorthwindHQ01");
    let result = consented.await.result(BACK);
    assert_eq!(result["status"], "connected");
    assert_eq!(result["company_id"], "sandboxNorthwindHQ01");
    assert!(!result.contains_key("location_id"), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn customer_who_denies_may_go_back_and_allow() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}&external_id=42"));
    let consent_page = browser.begin(&link).await;
    let denied = browser.decide(&consent_page, "deny=1").await;
    for _ in 0..2 {
        let result = browser.open(&denied).await.result(BACK);
        let seen = (
            &*result["status"],
            &*result["code"],
            &*result["external_id"],
        );
        assert_eq!(seen, ("denied", "consent_denied", "42"));
        assert!(!result.contains_key("installation_id"), "{result:?}");
    }
    let allowed = browser.decide(&consent_page, "locationId=locA").await;
    let result = browser.open(&allowed).await.result(BACK);
    assert_eq!(result["status"], "connected", "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_ghl_refuses_is_an_error_with_a_code() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}&external_id=42"));
    let callback = browser.callback(&link, "locationId=locA").await;
    let mut forged = Url::parse(&callback).unwrap();
    let state = forged.query_pairs().find(|(name, _)| name == "state");
    let state = state.unwrap().1.into_owned();
    let pairs = [("code", "made-up"), ("state", &state)];
    forged.query_pairs_mut().clear().extend_pairs(pairs);
    for _ in 0..2 {
        let result = browser.open(forged.as_str()).await.result(BACK);
        let seen = (
            &*result["status"],
            &*result["code"],
            &*result["external_id"],
        );
        assert_eq!(seen, ("error", "consent_rejected", "42"));
    }
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["token_calls"]["invalid_grant"], 1, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_no_person_made_spend_no_code() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}"));
    let callback = browser.callback(&link, "locationId=locA").await;
    let head = browser.client.head(browser.here(&callback));
    let pairs = browser.get(&callback).build().unwrap();
    let head = head.header("cookie", &pairs.headers()["cookie"]);
    let head = head.send().await.unwrap();
    assert_eq!(head.status(), 200);
    for (name, value) in [
        ("sec-purpose", "prefetch;anonymous-client-ip"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
        ("x-purpose", "preview"),
    ] {
        let guessed = browser.get(&callback).header(name, value).send().await;
        let guessed = Page::of(guessed.unwrap()).await;
        assert_eq!(guessed.status, 503, "{name}: {guessed:?}");
        assert_eq!(guessed.header("cache-control"), Some("no-store"));
    }
    assert_eq!(exchanges(&up).await, 0);
    let result = browser.open(&callback).await.result(BACK);
    assert_eq!(result["status"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_is_sent_nowhere_that_the_operator_has_not_named() {
    let allowed = "https://app.example, https://other.example/back";
    let up = Up::start(&[("EVERGREEN_RETURN_URLS", allowed)]).await;
    let browser = Browser::new(&up.public);
    for refused in [
        "https://evil.example/",
        "https://app.example.evil.example/",
        "https://app.example@evil.example/",
        "https://app.example:8443/",
        "http://app.example/",
        "//app.example/",
        "///evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://other.example/backstage",
        "https://other.example/back/../admin",
        "https://other.example/back/%2e%2e/admin",
        "javascript:alert(1)",
        "data:text/html,x",
        "/done",
        "",
    ] {
        let mut url = Url::parse(&format!("{}/oauth/install", up.public)).unwrap();
        url.query_pairs_mut().append_pair("return_to", refused);
        let page = browser.open(url.as_str()).await;
        assert_eq!(
            (page.status, page.header("location")),
            (400, None),
            "{refused}"
        );
        assert!(!page.body.contains("evil"), "{refused}: {}", page.body);
        let (status, body) = get(&browser.client, url.as_str()).await;
        let seen = (status, &body["code"]);
        assert_eq!(seen, (400, &json!("return_url_refused")), "{refused}");
    }
    for odd in [
        "https://app.example\\@evil.example/",
        "https://app.example/\t//evil.example",
    ] {
        let mut url = Url::parse(&format!("{}/oauth/install", up.public)).unwrap();
        url.query_pairs_mut().append_pair("return_to", odd);
        let page = browser.consent(url.as_str(), "locationId=locA").await;
        let target = Url::parse(page.leads_to()).unwrap();
        assert_eq!(target.host_str(), Some("app.example"), "{odd}: {target}");
    }
    // A state that another browser has, or none, leads nowhere either.
    let forged = format!("/oauth/callback?code=x&state=forged&return_to={BACK}");
    let page = browser.open(&forged).await;
    assert!(page.leads_to().starts_with("/oauth/result/"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn external_id_that_cannot_be_read_is_refused_before_the_consent() {
    let up = Up::start(&[PUBLIC_IDS]).await;
    for id in ["", "a%20b", "%C3%A9", "install_42", &"x".repeat(129)] {
        let url = format!("{}/oauth/install?external_id={id}", up.public);
        let (status, body) = get(&client::anonymous(), &url).await;
        let seen = (status, &body["code"]);
        assert_eq!(seen, (400, &json!("request_invalid")), "{id}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn public_link_takes_an_external_id_only_if_the_operator_allows_it() {
    let up = Up::start(&[RETURN_URLS]).await;
    let url = format!("{}/oauth/install?external_id=42", up.public);
    let (status, body) = get(&client::anonymous(), &url).await;
    assert_eq!((status, &body["code"]), (400, &json!("request_invalid")));
    let hint = body["hint"].as_str().unwrap();
    assert!(hint.contains("EVERGREEN_PUBLIC_EXTERNAL_IDS"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_takes_no_external_id_from_an_installation() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let begin = |id: &str| public_link(&format!("return_to={BACK}&external_id={id}"));
    let (browser, link) = (Browser::new(&up.public), begin("42"));
    let first = browser.consent(&link, "locationId=locA");
    let holder = first.await.result(BACK)["installation_id"].clone();
    let (browser, link) = (Browser::new(&up.public), begin("42"));
    let second = browser.consent(&link, "locationId=locB");
    let result = second.await.result(BACK);
    let seen = (
        &*result["status"],
        &*result["code"],
        &*result["location_id"],
    );
    assert_eq!(seen, ("error", "external_id_taken", "locB"));
    assert_eq!(result["external_id"], "42", "its own: {result:?}");
    assert_eq!(shown(&up, "42").await["installationId"], holder.as_str());
    let other = shown(&up, "locB").await;
    assert_eq!(
        (&other["tokenStatus"], &other["externalId"]),
        (&json!("valid"), &json!(null))
    );

    // Nor does it give another name to an installation that has one.
    let (browser, link) = (Browser::new(&up.public), begin("43"));
    let renamed = browser.consent(&link, "locationId=locA");
    let result = renamed.await.result(BACK);
    assert_eq!(
        (&*result["code"], &*result["external_id"]),
        ("external_id_taken", "43"),
        "never that of another customer"
    );
    assert_eq!(shown(&up, "43").await["code"], "installation_not_found");
    let (browser, link) = (Browser::new(&up.public), begin("43"));
    let third = browser.consent(&link, "locationId=locB");
    assert_eq!(third.await.result(BACK)["external_id"], "43");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_another_browser_connects_nothing_and_spends_no_code() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let attacker = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}&external_id=42"));
    let callback = attacker.callback(&link, "locationId=locA").await;
    let victim = Browser::new(&up.public);
    victim.begin(&link).await;
    // The product hears of it, since the link said where to go.
    let result = victim.open(&callback).await.result(BACK);
    let seen = (
        &*result["status"],
        &*result["code"],
        &*result["external_id"],
    );
    assert_eq!(seen, ("error", "consent_state_invalid", "42"));
    assert!(!result.contains_key("installation_id"), "{result:?}");
    assert_eq!(exchanges(&up).await, 0);
    let result = attacker.open(&callback).await.result(BACK);
    assert_eq!(result["status"], "connected", "its own browser can");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_browser_do_not_disturb_each_other() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let begin = |id: &str| public_link(&format!("return_to={BACK}/{id}&external_id={id}"));
    let one = browser.callback(&begin("1"), "locationId=locA").await;
    let two = browser.callback(&begin("2"), "locationId=locB").await;
    for (callback, id, location) in [(two, "2", "locB"), (one, "1", "locA")] {
        let result = browser
            .open(&callback)
            .await
            .result(&format!("{BACK}/{id}"));
        let seen = (&*result["external_id"], &*result["location_id"]);
        assert_eq!(seen, (id, location), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_reload_waits_for_the_first_request() {
    let up = Up::start(&[RETURN_URLS, PUBLIC_IDS]).await;
    let browser = Browser::new(&up.public);
    let link = public_link(&format!("return_to={BACK}"));
    let callback = browser.callback(&link, "locationId=locA").await;
    let slow = json!([{ "on": "token", "kind": "slow_body", "ms": 1000, "next": 1 }]);
    up.sandbox.faults(slow).await;
    let opened = futures_util::future::join_all((0..3).map(|_| browser.open(&callback))).await;
    for page in opened {
        assert_eq!(page.result(BACK)["status"], "connected");
    }
    assert_eq!(exchanges(&up).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn script_gets_json_and_a_state_that_was_used_says_what_it_brought() {
    let up = Up::start(&[]).await;
    let choice = ("locationId", "locA");
    let callback = client::consented(&up.client, &up.public, choice).await;
    let callback = callback.unwrap();
    let again = callback.try_clone().unwrap();
    let (status, first) = send(callback).await;
    assert_eq!(
        (status, &first["status"]),
        (200, &json!("connected")),
        "{first}"
    );
    assert_eq!(send(again).await, (200, first));
    assert_eq!(exchanges(&up).await, 1);
}
