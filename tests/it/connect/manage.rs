//! Installations are found by external id, tag and location, changed, and deleted.

use tests::sandbox::{AGENCY, Sandbox};

use super::*;

async fn list(up: &Up, query: &str) -> (Vec<String>, Option<String>) {
    let url = format!("{}/v1/installations?{query}", up.internal);
    let (status, listed) = get(&up.client, &url).await;
    assert_eq!(status, 200, "{query}: {listed}");
    let owner = |it: &Value| it["locationId"].as_str().unwrap_or("-").to_owned();
    let entries = listed["installations"].as_array().unwrap().iter();
    let next = listed["next"].as_str().map(str::to_owned);
    (entries.map(owner).collect(), next)
}

fn change(up: &Up, name: &str, body: &Value) -> RequestBuilder {
    let url = format!("{}/v1/installations/{}", up.internal, encoded(name));
    up.client.patch(url).json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_filtered_and_comes_in_pages() {
    let up = Up::start(&[]).await;
    for (location, body) in [
        (
            "locA",
            json!({ "external_id": "org/1", "tags": ["vip", "größe 2"] }),
        ),
        ("locB", json!({ "external_id": "org/2", "tags": ["vip"] })),
        ("locC", json!({ "tags": ["trial"] })),
    ] {
        up.install(location).await;
        let (status, body) = send(change(&up, location, &body)).await;
        assert_eq!(status, 200, "{body}");
    }
    for (query, expected) in [
        ("external_id=org%2F1", "locA"),
        (
            "external_id=org%2F1&tag=vip&location=locA&status=valid",
            "locA",
        ),
        ("external_id=org%2F1&tag=trial", ""),
        ("external_id=org%2F1&location=locB", ""),
        ("external_id=org%2F9", ""),
        ("location=locB", "locB"),
        ("location=locB&app=staging", ""),
        ("tag=gr%C3%B6%C3%9Fe%202", "locA"),
        ("tag=trial&status=revoked", ""),
        ("tag=nobody", ""),
    ] {
        let (seen, next) = list(&up, query).await;
        assert_eq!((&*seen.join(","), next), (expected, None), "{query}");
    }
    for (name, filter) in [
        ("after", "tag=vip"),
        ("cursor", "tag=vip"),
        ("cursor", "location=locA"),
    ] {
        let (mut seen, mut pages, mut next) = (Vec::new(), 0, String::new());
        loop {
            let (page, more) = list(&up, &format!("{filter}&limit=1{next}")).await;
            seen.extend(page);
            pages += 1;
            assert!(pages < 5, "it ends");
            let Some(more) = more else { break };
            next = format!("&{name}={more}");
        }
        seen.sort_unstable();
        let expected = match filter {
            "tag=vip" => "locA,locB",
            _ => "locA",
        };
        assert_eq!(seen.join(","), expected);
    }
    for wrong in ["external_id=a%20b", "location=x:org", "tag=a,b", "cursor=7"] {
        let url = format!("{}/v1/installations?{wrong}", up.internal);
        assert_eq!(get(&up.client, &url).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_leaves_what_it_does_not_name() {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    up.install("locB").await;
    for (name, body, expected) in [
        (
            "locA",
            json!({ "external_id": "42" }),
            (json!("42"), json!([])),
        ),
        (
            "42",
            json!({ "tags": ["b", "a", "b"] }),
            (json!("42"), json!(["a", "b"])),
        ),
        (
            "42",
            json!({ "external_id": "43" }),
            (json!("43"), json!(["a", "b"])),
        ),
        (
            "43",
            json!({ "external_id": null }),
            (json!(null), json!(["a", "b"])),
        ),
        (
            "locA",
            json!({ "external_id": "42", "tags": [] }),
            (json!("42"), json!([])),
        ),
    ] {
        let (status, seen) = send(change(&up, name, &body)).await;
        assert_eq!(status, 200, "{body}: {seen}");
        assert_eq!(
            (&seen["externalId"], &seen["tags"]),
            (&expected.0, &expected.1),
            "{body}"
        );
    }
    // It moves.
    assert_eq!(
        send(change(&up, "locB", &json!({ "external_id": "42" })))
            .await
            .0,
        200
    );
    assert_eq!(shown(&up, "42").await["locationId"], "locB");
    assert_eq!(shown(&up, "locA").await["externalId"], json!(null));
    for (name, body) in [
        ("locA", json!({})),
        ("locA", json!({ "tags": null })),
        ("locA", json!({ "externalId": "1" })),
        ("locA", json!({ "external_id": "" })),
        ("locA", json!({ "tags": "vip" })),
        ("43", json!({ "tags": [] })),
    ] {
        let (status, seen) = send(change(&up, name, &body)).await;
        assert_eq!(status, 400, "{name} {body}: {seen}");
    }
    let proxy = backend_key(&up.internal, json!({ "scopes": ["connect", "proxy"] })).await;
    let url = format!("{}/v1/installations/locA", up.internal);
    for request in [
        client::anonymous().patch(&url),
        client::anonymous().delete(&url),
    ] {
        let (status, _) = send(request.bearer_auth(&proxy).json(&json!({ "tags": [] }))).await;
        assert_eq!(status, 403);
    }
}

/// An `up` that gets the webhooks of a sandbox.
async fn with_webhooks() -> (Up, Sandbox) {
    let up = Up::start(&[]).await;
    let hook = format!("{}/webhooks/ghl", up.public);
    let sandbox = Sandbox::start(&[("WEBHOOK_URL", &hook)]).await;
    let key = sandbox.webhook_key().await;
    let up = up.with("GHL_WEBHOOK_ED25519_KEY", key);
    (up.against(&sandbox).await, sandbox)
}

async fn delete(up: &Up, name: &str) -> Value {
    let url = format!("{}/v1/installations/{}", up.internal, encoded(name));
    let (status, deleted) = send(up.client.delete(url)).await;
    assert_eq!(status, 200, "{deleted}");
    deleted
}

async fn is_known(up: &Up, name: &str) -> bool {
    shown(up, name).await["code"] != "installation_not_found"
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_installation_is_uninstalled_at_ghl_and_forgotten() {
    let (up, sandbox) = with_webhooks().await;
    let id = up.install("locA").await;
    let body = json!({ "external_id": "42", "tags": ["vip"] });
    assert_eq!(send(change(&up, &id, &body)).await.0, 200);
    let token = format!("{}/v1/installations/{id}/token", up.internal);
    assert_eq!(get(&up.client, &token).await.0, 200);
    let deleted = delete(&up, "42").await;
    assert_eq!(
        (&deleted["installationId"], &deleted["uninstalledAtGhl"]),
        (&json!(id), &json!(true))
    );
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["grants_revoked"], 1, "{ledger}");
    for name in [&*id, "locA", "42"] {
        assert!(!is_known(&up, name).await, "{name}");
    }
    assert_eq!(list(&up, "tag=vip").await.0, [""; 0]);
    until("its token to be refused", PATIENCE, || async {
        let (status, body) = get(&up.client, &token).await;
        holds(status == 400, body)
    })
    .await;
    // GHL says it once more.
    let event = json!({ "type": "UNINSTALL", "locationId": "locA" });
    assert_eq!(sandbox.webhook(&event).await["status"], 200);
    assert!(!is_known(&up, "locA").await);
    let url = format!("{}/v1/installations/{id}", up.internal);
    let (status, again) = send(up.client.delete(&url)).await;
    assert_eq!(
        (status, &again["code"]),
        (400, &json!("installation_not_found"))
    );

    assert_eq!(up.install("locA").await, id, "the same id");
    let seen = shown(&up, "locA").await;
    let seen = (&seen["tokenStatus"], &seen["externalId"], &seen["tags"]);
    assert_eq!(seen, (&json!("valid"), &json!(null), &json!([])));
    let call = format!("{}/api/ghl/products?installation_id={id}", up.public);
    until("calls to work", PATIENCE, || async {
        let (status, body) = get(&up.client, &call).await;
        holds(status == 200, body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_agency_takes_its_locations_along() {
    let (up, sandbox) = with_webhooks().await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    let listed = || async {
        let (seen, _) = list(&up, &format!("parent={agency}")).await;
        holds(seen.len() >= 3, seen)
    };
    until("the locations", PATIENCE, listed).await;
    let own = up.install("locA").await;
    let deleted = delete(&up, AGENCY).await;
    assert_eq!(
        (&deleted["uninstalledAtGhl"], &deleted["locations"]),
        (&json!(true), &json!(3))
    );
    for name in [&*agency, AGENCY, "sandboxHarborDental1"] {
        assert!(!is_known(&up, name).await, "{name}");
    }
    assert!(is_known(&up, &own).await, "it has a grant of its own");
    let event = json!({ "type": "UNINSTALL", "companyId": AGENCY });
    assert_eq!(sandbox.webhook(&event).await["status"], 200);
    assert!(!is_known(&up, AGENCY).await);
    let again = client::install_agency(&up.client, &up.public, AGENCY).await;
    assert_eq!(again, agency, "the same id");
    until("the locations", PATIENCE, listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_is_deleted_when_ghl_does_not_take_its_token() {
    let (up, sandbox) = with_webhooks().await;
    up.install("locA").await;
    sandbox.steer("revoke", "locA").await;
    let deleted = delete(&up, "locA").await;
    assert_eq!(deleted["uninstalledAtGhl"], false);
    assert!(deleted["reason"].is_string(), "{deleted}");
    assert!(!is_known(&up, "locA").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_finds_changes_and_deletes() {
    let up = Up::start(&[RETURN_URLS]).await;
    up.install("locA").await;
    up.install("locB").await;
    let run = async |args: &[&str]| {
        let output = up
            .command(&[&["installations"][..], args].concat())
            .run()
            .await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[
        "tag",
        "locA",
        "--set",
        "vip,größe 2",
        "--external-id",
        "org/7",
    ])
    .await;
    run(&["tag", "org/7", "--external-id", "org/8"]).await;
    for filter in [
        ["--tag", "vip"],
        ["--external-id", "org/8"],
        ["--location", "locA"],
    ] {
        let listed = run(&[&["list"][..], &filter].concat()).await;
        assert!(
            listed.contains("locA") && !listed.contains("locB"),
            "{listed}"
        );
    }
    let shown = run(&["show", "org/8", "--output", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["tags"], json!(["größe 2", "vip"]));
    run(&["tag", "org/8", "--no-external-id", "--set", ""]).await;
    let shown: Value =
        serde_json::from_str(&run(&["show", "locA", "--output", "json"]).await).unwrap();
    assert_eq!(
        (&shown["externalId"], &shown["tags"]),
        (&json!(null), &json!([]))
    );
    for wrong in [
        &["tag", "locA"][..],
        &["tag", "locA", "--external-id", "1", "--no-external-id"],
    ] {
        let output = up
            .command(&[&["installations"][..], wrong].concat())
            .run()
            .await;
        assert!(!output.status.success(), "{output:?}");
    }

    let made = run(&[
        "connect-link",
        "--external-id",
        "42",
        "--tag",
        "vip",
        "--return-to",
        BACK,
        "--quiet",
    ])
    .await;
    let link = made.trim();
    let browser = Browser::new(&up.public);
    let result = browser.consent(link, "locationId=locC").await.result(BACK);
    assert_eq!(result["external_id"], "42");
    let made = run(&["reconnect-link", "42"]).await;
    assert!(made.contains("/connect/"), "{made}");

    // Without a terminal nobody can answer the question.
    let output = up.command(&["installations", "delete", "42"]).run().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--yes") && said.contains("locC"), "{said}");
    assert!(is_known(&up, "42").await);
    let deleted = run(&["delete", "42", "--yes"]).await;
    let words: Vec<&str> = deleted.split_whitespace().collect();
    assert!(
        words.join(" ").contains("uninstalled at ghl yes"),
        "{deleted}"
    );
    assert!(!is_known(&up, "locC").await);
}
