//! Rows: their formats, their repetition, and bad ones.

use super::*;

/// A location of [`AGENCY`].
const OF_AGENCY: &str = "sandboxHarborDental1";

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_each_format_serve_calls() {
    let up = Up::start(&[]).await;
    let old = OldBackend {
        sandbox: &up.sandbox,
    };
    let row = |location: &'static str| old.connect(("locationId", location));
    let now = store::Timestamp::of_this_machine().as_millis();

    let mut sdk = row("locSdk").await;
    sdk["resourceId"] = json!("locSdk");
    sdk["applicationId"] = json!("sandbox");
    sdk["_id"] = json!({ "$oid": "65f0c0ffee65f0c0ffee65f0" });
    sdk["expire_at"] = json!({ "$numberLong": (now + 86_399_000).to_string() });
    sdk["updatedAt"] = json!({ "$date": "2027-01-14T08:00:01Z" });
    let output = import(&up, &lines(&[sdk]), &[]).await;
    let said = printed(&output);
    assert!(said.contains("line 1: imported install_"), "{said}");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(warned.contains("Stop the other backend"), "{warned}");

    let given = row("locArray").await;
    let camel = json!([{
        "accessToken": given["access_token"], "refreshToken": given["refresh_token"],
        "expiresAt": "2026-01-01T00:00:00.000Z", "locationId": "locArray",
    }]);
    printed(&import(&up, &format!("{camel:#}"), &[]).await);

    let (object, bare) = (row("locObject").await, row("locBare").await);
    let map = json!({
        "locObject": { "accessToken": object["access_token"], "refreshToken": object["refresh_token"] },
        "locBare": bare["refresh_token"],
    });
    let said = printed(&import(&up, &format!("{map:#}"), &[]).await);
    assert!(said.contains("key locBare: imported"), "{said}");

    let agency = old.connect(("companyId", AGENCY)).await;
    printed(&import(&up, &agency.to_string(), &[]).await);
    for location in ["locSdk", "locArray", "locObject", "locBare", OF_AGENCY] {
        tests::wait::until(&format!("a call for {location}"), PATIENCE, || async {
            let (status, body) = call(&up, location).await;
            tests::wait::holds(status == 200, (status, body))
        })
        .await;
    }
    let agency = shown(&up, AGENCY).await;
    assert_eq!(agency["userType"], "Company", "{agency}");
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["token_calls"]["invalid_grant"], 0, "{ledger}");
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_import_never_replaces_a_newer_token() {
    let up = Up::start(&[]).await;
    let old = OldBackend {
        sandbox: &up.sandbox,
    };
    let first = old.connect(("locationId", "loc1")).await;
    let dry = import(&up, &lines(std::slice::from_ref(&first)), &["--dry-run"]).await;
    assert_eq!(summary(&dry), "1 would be imported, 0 unchanged, 0 refused");
    // GHL has announced the location already.
    let stored = listed(&up.client, &up.internal).await;
    let has_token = |one: &Value| one["tokenStatus"] == "valid";
    assert!(!stored.iter().any(has_token), "a dry run: {stored:?}");

    // The old backend refreshed once more, and then stopped. Claims are in whole seconds, so this token lives longer.
    let longer = 2 * HOUR.as_millis() + 86_399_000;
    up.sandbox.set(json!({ "token_lifetime_ms": longer })).await;
    let second = old.refresh(&first).await;
    let file = lines(&[first.clone(), second.clone()]);
    let output = import(&up, &file, &[]).await;
    printed(&output);
    let id = shown(&up, "loc1").await["installationId"].clone();
    let id = id.as_str().unwrap().to_owned();
    let refresh = command(&up, &["refresh", &id]).run().await;
    printed(&refresh);
    let before = shown(&up, &id).await;
    for text in [file.as_str(), &lines(std::slice::from_ref(&first))] {
        let output = import(&up, text, &[]).await;
        let said = printed(&output);
        assert!(said.contains("unchanged"), "{said}");
        assert!(!said.contains(": imported"), "{said}");
    }
    // Without an expiry it does not say how old it is.
    let unknown = json!({ "refresh_token": first["refresh_token"], "locationId": "loc1" });
    printed(&import(&up, &lines(&[unknown]), &[]).await);
    let after = shown(&up, &id).await;
    assert_eq!(after["generation"], before["generation"], "{after}");
    assert_eq!(call(&up, "loc1").await.0, 200);
    expect_each_spent_once(&up.sandbox, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalled_location_is_not_revived_by_an_older_row() {
    let up = Up::start(&[]).await;
    let old = OldBackend {
        sandbox: &up.sandbox,
    };
    let row = old.connect(("locationId", "loc1")).await;
    printed(&import(&up, &lines(std::slice::from_ref(&row)), &[]).await);
    let newer = old.connect(("locationId", "loc1")).await;
    printed(&command(&up, &["revoke", "loc1"]).run().await);
    let output = import(&up, &lines(&[row, newer]), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("line 1: unchanged"), "{said}");
    assert!(
        said.contains("line 2: refused") && said.contains("was revoked"),
        "{said}"
    );
    assert_eq!(shown(&up, "loc1").await["tokenStatus"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_row_is_refused_with_its_line_and_stops_no_other() {
    const SECRET: &str = "eyJhbGciOiplanted.secret.value";
    let mut up = Up::start(&[("EVERGREEN_LOG", "trace")]).await;
    let old = OldBackend {
        sandbox: &up.sandbox,
    };
    let good = [
        old.connect(("locationId", "loc1")).await,
        old.connect(("locationId", "loc2")).await,
    ];
    let far = store::Timestamp::of_this_machine().as_millis() + 30 * 86_400_000;
    let bad = [
        (format!(r#"{{"refresh_token":"{SECRET}","#), "not JSON"),
        (
            json!({ "access_token": SECRET, "locationId": "loc3" }).to_string(),
            "add-token",
        ),
        (
            json!({ "refresh_token": "pit-1", "locationId": "loc3" }).to_string(),
            "add-token",
        ),
        (
            json!({ "refresh_token": SECRET }).to_string(),
            "add `locationId`",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": SECRET }).to_string(),
            "`locationId`",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": "a", "userType": SECRET }).to_string(),
            "`userType`",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": "a", "expires_at": far }).to_string(),
            "week ahead",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": "a", "app": SECRET }).to_string(),
            "`app`",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": "a", "clientId": SECRET }).to_string(),
            "client id",
        ),
        (
            json!({ "refresh_token": SECRET, "locationId": "a", "tags": SECRET }).to_string(),
            "`tags`",
        ),
        (json!([SECRET]).to_string(), "not a row"),
    ];
    let mut text = format!("{}\n\n", good[0]);
    for (row, _) in &bad {
        text.push_str(row);
        text.push('\n');
    }
    text.push_str(&good[1].to_string());
    let output = import(&up, &text, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for (line, (_, what)) in (3..).zip(&bad) {
        let refused = format!("line {line}: refused");
        let found = said.lines().find(|shown| shown.starts_with(&refused));
        assert!(
            found.is_some_and(|found| found.contains(what)),
            "{line} {what}: {said}"
        );
    }
    assert_eq!(summary(&output), "2 imported, 0 unchanged, 11 refused");
    for location in ["loc1", "loc2"] {
        assert_eq!(call(&up, location).await.0, 200);
    }
    let body = format!("[{}]", bad[4].0);
    let url = format!("{}/v1/installations", up.internal);
    let request = up
        .client
        .post(&url)
        .header("content-type", "application/json");
    let (status, answer) = client::send(request.body(body)).await;
    assert_eq!((status, &answer["refused"]), (200, &json!(1)), "{answer}");
    let (_, log) = up.restart().await;
    let everything = format!("{output:?}{answer}{}", log.join("\n"));
    assert!(
        everything.contains("rows were imported"),
        "the log is whole"
    );
    for secret in [SECRET, good[0]["refresh_token"].as_str().unwrap()] {
        assert!(!everything.contains(secret), "a token leaked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_imports_and_exports() {
    let up = Up::start(&[]).await;
    let key = up
        .command(&["keys", "create", "--name", "crm", "--scope", "tokens"])
        .run()
        .await;
    let key = printed(&key);
    let import = format!("{}/v1/installations", up.internal);
    let export = format!("{}/v1/installations/export?with_tokens=true", up.internal);
    let anonymous = client::anonymous();
    for (key, expected) in [
        (Some(key.trim()), 403),
        (Some("evg_none"), 401),
        (None, 401),
    ] {
        let requests = [
            anonymous.post(&import).json(&json!([])),
            anonymous
                .post(format!("{import}/verify"))
                .json(&json!({ "installations": [] })),
            anonymous.get(&export),
        ];
        for request in requests {
            let request = match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            };
            let (status, body) = client::send(request).await;
            assert_eq!(status, expected, "{body}");
        }
    }
    let plain = up.client.post(&import).body("[]");
    assert_eq!(
        client::send(plain).await.0,
        415,
        "a page of another site sends this"
    );
    let (status, body) = get(
        &up.client,
        &format!("{}/v1/installations/export", up.internal),
    )
    .await;
    assert_eq!(status, 400, "{body}");
    let long = format!("[\"{}\"]", "x".repeat(5 * 1024 * 1024));
    let long = up
        .client
        .post(&import)
        .header("content-type", "application/json")
        .body(long);
    let (status, body) = client::send(long).await;
    assert_eq!(
        (status, &body["code"]),
        (413, &json!("body_too_large")),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_brings_an_external_id_that_no_other_installation_has() {
    let up = Up::start(&[]).await;
    let old = OldBackend {
        sandbox: &up.sandbox,
    };
    let (one, two) = (
        old.connect(("locationId", "loc1")).await,
        old.connect(("locationId", "loc2")).await,
    );
    // The first import knew of no customers.
    printed(&import(&up, &lines(std::slice::from_ref(&one)), &[]).await);
    let with = |row: &Value, id: &str| {
        let mut row = row.clone();
        (row["external_id"], row["tags"]) = (json!(id), json!(["vip"]));
        row
    };
    let file = lines(&[with(&one, "org/1"), with(&two, "org/1")]);
    for mut flags in [vec!["--dry-run"], vec![], vec![]] {
        let output = import(&up, &file, &flags).await;
        let said = printed(&output);
        assert!(said.contains("line 1: unchanged"), "{said}");
        if flags.pop().is_some() {
            let seen = shown(&up, "loc1").await;
            assert_eq!(seen["externalId"], json!(null), "a dry run: {seen}");
            continue;
        }
        // Two rows with one id: either has it, and the other one is told.
        let holder = shown(&up, "org/1").await["locationId"].clone();
        let taken = said.matches("its external id was not stored");
        assert_eq!(taken.count(), 1, "{said}");
        for location in ["loc1", "loc2"] {
            let seen = shown(&up, location).await;
            let has_id = seen["externalId"] == "org/1";
            assert_eq!(has_id, holder == location, "{seen}\n{said}");
            assert_eq!(seen["tags"], json!(["vip"]), "{said}");
        }
    }
    let third = with(&old.connect(("locationId", "loc3")).await, "org/1");
    let said = printed(&import(&up, &lines(&[third]), &[]).await);
    assert!(said.contains("its external id was not stored"), "{said}");
    // A row that is refused claims no id.
    let late = with(&old.connect(("locationId", "loc3")).await, "org/3");
    printed(&command(&up, &["revoke", "loc3"]).run().await);
    let output = import(&up, &lines(&[late]), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let seen = shown(&up, "org/3").await;
    assert_eq!(seen["code"], "installation_not_found", "{seen}");
}
